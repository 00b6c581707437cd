"""What a caller did wrong, in Neutron's words: clients read the class's name, the status and the message.

Four families, one for each way in which a client reacts: ``BadRequest`` (400), ``NotFound`` (404), ``Conflict``
(409) and ``Forbidden`` (403).
"""

from typing import ClassVar

from portward.model import PortwardError


class ServiceError(PortwardError):
    """A request that is refused. Nothing of it is done, provided that the caller rolls back."""

    status: ClassVar[int]
    template: ClassVar[str] = "{}"

    def __init__(self, *values: object) -> None:
        super().__init__(self.template.format(*values))


class BadRequest(ServiceError):
    """The request makes no sense, whatever is stored."""

    status = 400


class Forbidden(ServiceError):
    """The caller may not do this."""

    status = 403


class NotFound(ServiceError):
    """What the request names is not there, or not for this caller."""

    status = 404


class Conflict(ServiceError):
    """The request contradicts what is stored."""

    status = 409


class InvalidInput(BadRequest):
    """A value that cannot be what it should be."""

    template = "Invalid input for operation: {}."


class FirewallRuleWithPortWithoutProtocolInvalid(BadRequest):
    """Ports without a protocol that has them."""

    template = "Source/destination port requires a protocol."


class FirewallRuleInvalidICMPParameter(BadRequest):
    """Ports with a protocol that has none."""

    template = "Source, destination port are not allowed when protocol is set to {}."


class FirewallIpAddressConflict(BadRequest):
    """Addresses, or a protocol, of the other IP version."""

    template = "Invalid input - IP addresses do not agree with IP Version."


class FirewallRuleAddressConflict(BadRequest):
    """One side of a rule, named in two ways."""

    template = (
        "A firewall rule names its {0} in one way at most: "
        "{0}_ip_address, {0}_address_group_id or {0}_firewall_group_id."
    )


class FirewallRuleIcmpConflict(BadRequest):
    """A type of ICMP with another protocol, or a code without a type."""

    template = "icmp_type requires the protocol icmp or ipv6-icmp, and icmp_code requires icmp_type."


class FirewallGroupTenantScope(BadRequest):
    """A tenant group that would cover more than the ports that it names."""

    template = "A firewall group of the stratum tenant has the scope ports; scopes all and projects are for the others."


class FirewallGroupScopeWithoutProjects(BadRequest):
    """Projects and a scope that does not go with them."""

    template = "A firewall group has project_ids if its scope is projects, and only then."


class FirewallGroupPortsByScope(BadRequest):
    """Ports, named one by one for a group whose scope names them."""

    template = (
        "The scope of the firewall group is {}, which says what ports it covers; to name them, set its scope to ports."
    )


class FirewallRuleNotAssociatedWithPolicy(BadRequest):
    """A rule that does not stand in the policy, where it should."""

    template = "Firewall rule {} is not associated with firewall policy {}."


class FirewallRuleInfoMissing(BadRequest):
    """An action without its rule."""

    template = "Missing rule info argument for insert/remove rule operation."


class FirewallRuleNotFound(NotFound):
    """No such rule."""

    template = "Firewall rule {} could not be found."


class FirewallPolicyNotFound(NotFound):
    """No such policy."""

    template = "Firewall policy {} could not be found."


class FirewallGroupNotFound(NotFound):
    """No such group."""

    template = "Firewall group {} could not be found."


class AddressGroupNotFound(NotFound):
    """No such address group."""

    template = "Address group {} could not be found."


class AddressesNotFound(NotFound):
    """Addresses that are to go, and are no members."""

    template = "Addresses {} not found in the address group {}."


class AddressesAlreadyExist(BadRequest):
    """Addresses that are to come, and are members."""

    template = "Addresses {} already exist in the address group {}."


class AddressGroupFull(Conflict):
    """Addresses that are to come, and would be too many."""

    template = "Address group {} would have more than {} addresses; put some into another group."


class AddressGroupInUse(Conflict):
    """An address group that rules name."""

    template = "Address group {} is in use on firewall rules {}."


class FirewallGroupNamed(Conflict):
    """A firewall group that rules name as an address."""

    template = "Firewall group {} is in use as an address on firewall rules {}."


class PortNotFound(NotFound):
    """No such port."""

    template = "Port {} could not be found."


class FirewallRuleInUse(Conflict):
    """The rule stands in a policy."""

    template = "Firewall rule {} is being used."


class FirewallPolicyInUse(Conflict):
    """A group applies the policy."""

    template = "Firewall policy {} is being used."


class FirewallGroupInUse(Conflict):
    """The group covers ports."""

    template = "Firewall group {} is still active."


class FirewallRuleAlreadyAssociated(Conflict):
    """The rule stands in the policy already."""

    template = "Operation cannot be performed since firewall rule {} is already associated with firewall policy {}."


class FirewallGroupPortInvalid(Conflict):
    """A port that is neither a router's interface nor a VM's."""

    template = "Port {} of firewall group is invalid."


class FirewallGroupPortInUse(Conflict):
    """Ports that another group covers."""

    template = "Port(s) {} provided already associated with other firewall group(s)."


class FirewallRuleSharingConflict(NotFound):
    """A shared policy is to hold a rule that is not shared."""

    template = (
        "Operation cannot be performed since firewall policy {} could not find the firewall rule {}. "
        "Please confirm if the firewall rule exists and is shared."
    )


class TagNotFound(NotFound):
    """The resource does not bear the tag."""

    template = "Tag {} could not be found."


class FirewallRuleConflict(Conflict):
    """A rule of another project, not shared."""

    template = "Operation cannot be performed since firewall rule {} is not shared and belongs to another project {}."


class FirewallPolicySharingConflict(Conflict):
    """A policy that is shared, or is to be, and a rule of it that is not."""

    template = "Operation cannot be performed. Before sharing firewall policy {}, share associated firewall rule {}."


class FirewallDefaultParameterExists(Conflict):
    """A name that default objects alone have."""

    template = "Operation cannot be performed since '{}' is a reserved name for {}."


class FirewallDefaultObjectUpdateRestricted(Conflict):
    """A default object, which its project's members may not change."""

    template = "Operation cannot be performed on default object '{}' of type {}."


class FirewallGroupCannotRemoveDefault(Conflict):
    """The default group, which its project's members may not delete."""

    template = "Deleting default firewall group not allowed."


class OverQuota(Conflict):
    """The project has as many as it may have."""

    template = "Quota exceeded for resources: ['{}']."


class FirewallObjectGuarded(Forbidden):
    """What an admin or baseline group is or uses, which admins alone may change."""

    template = "{} {} is, or is used by, a firewall group of the stratum admin or baseline: only admins may change it."


class FirewallRulePassAdminOnly(Forbidden):
    """A rule that passes, made by a member."""

    template = "Only admins may make rules with the action pass."


class FirewallRulePassMisplaced(Conflict):
    """A rule that passes, in a policy of a group of another stratum than admin."""

    template = (
        "Firewall rule {} has the action pass, which only firewall groups of the stratum admin may apply, and a group "
        "of another stratum would."
    )


class FirewallGroupUsesForeign(Conflict):
    """An admin or baseline group that would use what others than admins decide about."""

    template = (
        "Firewall group {} is of the stratum admin or baseline, and would use {}: all that it uses must belong to its "
        "own project, and a firewall group that it names as an address must be of the stratum admin or baseline too."
    )
