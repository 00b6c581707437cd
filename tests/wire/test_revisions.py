"""If-Match: a change that means another revision than the present one is not made."""

import pytest

from wire.conftest import Api, path

RULE, POLICY = "firewall_rule", "firewall_policy"


@pytest.mark.parametrize("kind", [RULE, POLICY, "firewall_group", "port"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_change_of_another_revision_is_refused(api: Api, kind: str, method: str) -> None:
    item = api.make(kind)
    where = f"{path(kind)}/{item['id']}"
    body = {"json": {kind: {"name": "x"}}} if method == "PUT" else {}
    answer = api.request(method, where, headers={"If-Match": "revision_number=5"}, **body)
    assert (answer.status_code, answer.json()["NeutronError"]) == (
        412,
        {
            "type": "RevisionNumberConstraintFailed",
            "message": "Constrained to 5, but current revision is 0",
            "detail": "",
        },
    )
    assert api.show(kind, item["id"]) == item
    current = {"If-Match": f'"revision_number={item["revision_number"]}"'}
    assert api.request(method, where, headers=current, **body).is_success


def test_rules_are_put_in_and_out_of_the_revision_that_is_meant(api: Api) -> None:
    policy, rule = api.make(POLICY), api.make(RULE)
    for action in ("insert_rule", "remove_rule"):
        where = f"{path(POLICY)}/{policy['id']}/{action}"
        body = {"firewall_rule_id": rule["id"]}
        assert api.request("PUT", where, json=body, headers={"If-Match": "revision_number=7"}).status_code == 412
        revision = api.show(POLICY, policy["id"])["revision_number"]
        current = {"If-Match": f"revision_number={revision}"}
        assert api.request("PUT", where, json=body, headers=current).status_code == 200


def test_a_star_matches_any_revision(api: Api) -> None:
    where = f"{path(RULE)}/{api.make(RULE)['id']}"
    assert api.request("DELETE", where, headers={"If-Match": "*"}).status_code == 204


@pytest.mark.parametrize("value", ["x", "5", "revision_number=", "revision_number=x", "revision_number=-1", '"', ""])
def test_what_names_no_revision_is_refused(api: Api, value: str) -> None:
    where = f"{path(RULE)}/{api.make(RULE)['id']}"
    answer = api.request("DELETE", where, headers={"If-Match": value})
    assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (400, "BadRequest")
    assert answer.json()["NeutronError"]["message"].startswith("Bad if-match request: Revision number etag must be")
    assert len(api.index(RULE)) == 1
