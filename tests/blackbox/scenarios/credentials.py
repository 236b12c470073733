"""Who calls: claims that are missing or malformed, and the order in which a call is looked at."""

from client import Caller
from world import event, same, scenario


def well_formed(world):
    """A call of each of the ten methods."""
    name = f"{world.tenant}/events/{world.id(1)}"
    return {
        "RecordEvent": {"parent": world.tenant, "event": event()},
        "BatchRecordEvents": {"parent": world.tenant, "requests": [{"event": event()}]},
        "GetEvent": {"name": name},
        "ListEvents": {"parent": world.tenant},
        "ExportCsv": {"parent": world.tenant},
        "AddUpdateNote": {"name": name, "text": "why"},
        "GetCheckpoint": {"parent": world.tenant},
        "GetInclusionProof": {"name": name},
        "GetConsistencyProof": {"parent": world.tenant},
        "ListLeaves": {"parent": world.tenant},
    }


@scenario
def a_call_without_claims_is_unauthenticated(world):
    for method, request in well_formed(world).items():
        world.call(method, request, Caller()).refused("UNAUTHENTICATED", "CREDENTIALS_MISSING")
        only_grants = Caller().role("tenant_admin@*").may("audit.get")
        world.call(method, request, only_grants).refused("UNAUTHENTICATED", "CREDENTIALS_MISSING")


@scenario
def claims_that_do_not_parse_refuse_the_call(world):
    bad = [
        ("x-audit-subject", "second"),
        ("x-audit-subject-type", "robot"),
        ("x-audit-subject-type", "system"),
        ("x-audit-subject-name", "%FF%FE"),
        ("x-audit-subject-name", "100%"),
        ("x-audit-subject-name", "100%zz"),
        ("x-audit-roles", "tenant_admin"),
        ("x-audit-roles", "@tenants/acme"),
        ("x-audit-roles", "tenant_admin@"),
        ("x-audit-roles", "tenant_admin@tenants/"),
        ("x-audit-roles", "tenant_admin@tenants/acme/projects"),
        ("x-audit-roles", "tenant_admin@tenants/*"),
        ("x-audit-roles", "tenant_viewer@tenants/acme;tenant_admin@tenants/b"),
        ("x-audit-permissions", "audit.get@"),
        ("x-audit-permissions", "audit.get@acme"),
        ("x-audit-permissions", "audit.get"),
    ]
    for key, value in bad:
        caller = world.root.with_claim(key, value)
        world.list(world.tenant, caller).refused("UNAUTHENTICATED", "CREDENTIALS_INVALID")
    for once in (("x-audit-subject-type", "user"), ("x-audit-subject-name", "Ann")):
        twice = world.root.with_claim(*once).with_claim(*once)
        world.list(world.tenant, twice).refused("UNAUTHENTICATED", "CREDENTIALS_INVALID")
    for subject in ("a" * 257,):
        caller = Caller(subject).may("audit.get").may("audit.list")
        world.list(world.tenant, caller).refused("UNAUTHENTICATED", "CREDENTIALS_INVALID")


@scenario
def claims_may_be_joined_repeated_and_unknown(world):
    for grants in (
        [f"tenant_viewer@{world.tenant},superuser@*"],
        [f"superuser@* , tenant_viewer@{world.tenant}"],
        ["superuser@tenants/b", f"tenant_viewer@{world.tenant}", f"tenant_viewer@{world.tenant}"],
    ):
        caller = Caller("a" * 256)
        for grant in grants:
            caller = caller.role(grant)
        world.list(world.tenant, caller).ok()
    world.list(world.tenant, Caller("ann").may("audit.everything")).refused("PERMISSION_DENIED", "PERMISSION_MISSING")


@scenario
def credentials_then_scopes_then_rights_then_fields_then_what_is_stored(world):
    stranger = Caller("eve").may("audit.get", "tenants/elsewhere")
    broken = {
        "RecordEvent": ("parent", {"event": event("", "")}),
        "GetEvent": ("name", {}),
        "ListEvents": ("parent", {"page_token": "x", "page_size": -1}),
        "ExportCsv": ("parent", {"log_size": -1}),
        "AddUpdateNote": ("name", {"text": ""}),
        "GetConsistencyProof": ("parent", {"old_size": -1}),
        "ListLeaves": ("parent", {"start": -1}),
    }
    for method, (field, rest) in broken.items():
        ending = "/events/x" if field == "name" else ""
        bad, good = {**rest, field: f"tenants/../b{ending}"}, {**rest, field: f"{world.tenant}{ending}"}
        world.call(method, bad, Caller()).refused("UNAUTHENTICATED", "CREDENTIALS_MISSING")
        world.call(method, bad, stranger).breaks(field)
        world.call(method, good, stranger).refused("PERMISSION_DENIED", "PERMISSION_MISSING")
        world.call(method, good).refused("INVALID_ARGUMENT", "FIELD_INVALID")
    for method in ("GetEvent", "AddUpdateNote", "GetInclusionProof"):
        request = well_formed(world)[method]
        world.call(method, request, stranger).refused("PERMISSION_DENIED", "PERMISSION_MISSING")
        world.call(method, request).refused("NOT_FOUND", "EVENT_NOT_FOUND")
    same(world.list(world.tenant).ok().events[:], [])
