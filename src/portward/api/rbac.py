"""Who may what, by default: one table of oslo.policy rules, named and set as Neutron's FWaaS has them.

An operator overrides them by name in ``[auth] policy_file``. A rule may look at the caller's ``role``s and
``project_id``, and at the ``%(project_id)s``, ``%(tenant_id)s`` and ``%(shared)s`` of what is asked for; at nothing
else, because lists are narrowed in SQL, by the four classes that these make: own or another's, shared or not.
What it refuses to know: how a rule is judged. That is ``authorisation``'s.
"""

from dataclasses import dataclass

ADMIN = "rule:admin_only"
_MEMBER = "rule:admin_only or (role:member and project_id:%(project_id)s)"
_READER = "rule:admin_only or (role:reader and project_id:%(project_id)s)"


@dataclass(frozen=True)
class RuleDefault:
    """A rule that an operator may override: its name, its check in oslo.policy's language, what it is asked for."""

    name: str
    check: str
    description: str


def _firewall(singular: str, plural: str, words: str, path: str = "") -> tuple[RuleDefault, ...]:
    path = path or f"/v2.0/fwaas/{plural}"
    return (
        RuleDefault(f"shared_{plural}", "True:%(shared)s", f"What makes the {words} a shared one; others refer to it"),
        RuleDefault(f"create_{singular}", _MEMBER, f"POST {path}"),
        RuleDefault(f"create_{singular}:shared", ADMIN, f"POST {path} with `shared` true"),
        RuleDefault(
            f"get_{singular}",
            f"{_READER} or (role:reader and rule:shared_{plural})",
            f"GET {path}, GET {path}/{{id}} and its tags; what it does not admit is not found",
        ),
        RuleDefault(f"update_{singular}", _MEMBER, f"PUT {path}/{{id}} and changes of its tags"),
        RuleDefault(f"update_{singular}:shared", ADMIN, f"PUT {path}/{{id}} with `shared`, whatever its value"),
        RuleDefault(f"delete_{singular}", _MEMBER, f"DELETE {path}/{{id}}"),
    )


DEFAULTS: tuple[RuleDefault, ...] = (
    RuleDefault("context_is_admin", "role:admin", "Who is an admin: sees and may change what any project owns"),
    RuleDefault("admin_only", "rule:context_is_admin", "An admin; others refer to it"),
    *_firewall("firewall_rule", "firewall_rules", "rule"),
    *_firewall("firewall_policy", "firewall_policies", "policy"),
    RuleDefault("insert_rule", _MEMBER, "PUT /v2.0/fwaas/firewall_policies/{id}/insert_rule"),
    RuleDefault("remove_rule", _MEMBER, "PUT /v2.0/fwaas/firewall_policies/{id}/remove_rule"),
    RuleDefault(
        "get_firewall_policy_counters",
        _READER,
        "GET /v2.0/fwaas/firewall_policies/{id}/counters, and there the counts of each rule, asked with its project",
    ),
    *_firewall("firewall_group", "firewall_groups", "group"),
    *(
        RuleDefault(f"{call}_firewall_group:{name}", ADMIN, f"{method} with `{name}`{values}")
        for name in ("stratum", "position", "scope", "project_ids")
        for call, method, values in (
            ("create", "POST /v2.0/fwaas/firewall_groups", " other than the default"),
            ("update", "PUT /v2.0/fwaas/firewall_groups/{id}", ", whatever its value"),
        )
    ),
    RuleDefault("get_firewall_group_realisation", _READER, "GET /v2.0/fwaas/firewall_groups/{id}/realisation"),
    RuleDefault("get_firewall_group_realisation:host", ADMIN, "The names of hosts in a group's realisation"),
    *_firewall("address_group", "address_groups", "address group", "/v2.0/address-groups"),
    RuleDefault("create_port", ADMIN, "POST /v2.0/ports"),
    RuleDefault("get_port", _READER, "GET /v2.0/ports, GET /v2.0/ports/{id} and its tags"),
    RuleDefault("get_port:binding:host_id", ADMIN, "`binding:host_id` of ports, to read, filter and sort by"),
    RuleDefault("get_port:binding:profile", ADMIN, "`binding:profile` of ports"),
    RuleDefault("update_port", ADMIN, "PUT /v2.0/ports/{id} and changes of its tags"),
    RuleDefault("delete_port", ADMIN, "DELETE /v2.0/ports/{id}"),
    RuleDefault("get_effective", _READER, "GET /v2.0/fwaas/effective/{port_id}"),
    RuleDefault("explain", _READER, "POST /v2.0/fwaas/explain, about a port"),
    RuleDefault("get_hosts", ADMIN, "GET /v2.0/fwaas/hosts"),
)
