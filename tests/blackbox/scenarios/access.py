"""Who may do what: all methods, asked by callers with every sort of claims, held against a model written here."""

import time

from client import Caller
from world import PERMISSIONS, Failure, event, same, scenario

READ = ("audit.get", "audit.list")
# What each built-in role brings, and to which kind of scope it may be bound.
ROLES = {
    "tenant_admin": ("tenant", (*READ, "audit.export", "audit.update")),
    "tenant_viewer": ("tenant", READ),
    "tenant_project_admin": ("tenant", READ),
    "tenant_team_admin": ("tenant", READ),
    "tenant_user_admin": ("tenant", READ),
    "project_admin": ("project", READ),
    "project_editor": ("project", READ),
    "project_viewer": ("project", READ),
    "event_recorder": ("any", ("audit.create",)),
}
PROJECT_ROLES = ("project_admin", "project_editor", "project_viewer")
PROOF_METHODS = ("GetCheckpoint", "GetInclusionProof", "GetConsistencyProof", "ListLeaves")
PATIENCE_SECONDS = 60


def kind(scope):
    return "platform" if scope == "*" else "project" if "/projects/" in scope else "tenant"


def tenant_of(scope):
    return "/".join(scope.split("/")[:2])


def covers(granted_at, scope):
    return granted_at in ("*", scope) or scope.startswith(f"{granted_at}/")


class Claims:
    """Roles and permissions, each a pair of name and scope, and what they open."""

    def __init__(self, roles=(), permissions=()):
        self.roles, self.permissions = list(roles), list(permissions)

    def caller(self, subject):
        caller = Caller(subject)
        for name, scope in self.roles:
            caller = caller.role(f"{name}@{scope}")
        for name, scope in self.permissions:
            caller = caller.may(name, scope)
        return caller

    def roles_on(self, scope):
        """The roles that hold there: known, bound to the right kind of scope, and covering it."""
        held = [(name, at) for name, at in self.roles if name in ROLES and covers(at, scope)]
        return [name for name, at in held if ROLES[name][0] in ("any", kind(at))]

    def has(self, permission, scope):
        granted = any(name == permission and covers(at, scope) for name, at in self.permissions)
        return granted or any(permission in ROLES[role][1] for role in self.roles_on(scope))

    def reads(self, scope):
        tenant = tenant_of(scope)
        if "tenant_admin" in self.roles_on(tenant) or all(self.has(each, tenant) for each in READ):
            return True
        in_project = any(role in PROJECT_ROLES for role in self.roles_on(scope))
        return scope != tenant and in_project and all(self.has(each, scope) for each in READ)

    def missing(self, method, scope):
        """Whether the caller is denied."""
        if method in ("RecordEvent", "BatchRecordEvents"):
            return not self.has("audit.create", scope)
        if method == "AddUpdateNote":
            return not self.has("audit.update", scope)
        if method == "ExportCsv":
            return not (self.reads(scope) and self.has("audit.export", scope))
        if method in ("GetEvent", "ListEvents"):
            return not self.reads(scope)
        return not self.reads(tenant_of(scope))


def sorts_of_claims(world):
    """Every role at every kind of scope, permissions alone and together, and both."""
    places = ["*", world.tenant, world.web, world.db, f"{world.tenant}-2", world.tenant[:-1]]
    yield from (Claims([(role, at)]) for role in ROLES for at in places[:3])
    yield from (Claims([("superuser", world.tenant)]), Claims())
    yield from (Claims([("tenant_admin", at)]) for at in places[4:])
    yield from (Claims(permissions=[(each, at) for each in PERMISSIONS]) for at in places)
    yield from (Claims(permissions=[(each, at)]) for each in PERMISSIONS for at in (world.tenant, world.web))
    yield from (Claims(permissions=[(each, at) for each in READ]) for at in places[:3])
    yield Claims(permissions=[("audit.get", world.tenant), ("audit.list", world.web)])
    for permission in PERMISSIONS:
        yield Claims([("project_viewer", world.web)], [(permission, world.web)])
        yield Claims([("tenant_viewer", world.tenant)], [(permission, world.tenant)])
    yield Claims([("event_recorder", world.web)], [(each, world.web) for each in READ])


def questions(world, scope):
    """A call of each method about a scope. All can be repeated, and none adds to the log but the export's own event."""
    own = world.id(2 if scope == world.web else 1)
    name = f"{scope}/events/{own}"
    recorded = {"parent": scope, "event": event("clusterprofile", actor="somebody"), "event_id": own}
    yield "RecordEvent", recorded
    yield "BatchRecordEvents", {"requests": [recorded]}
    yield "GetEvent", {"name": name}
    yield "ListEvents", {"parent": scope, "filter": {"resource_types": ["clusterprofile"]}}
    yield "ExportCsv", {"parent": scope, "filter": {"resource_types": ["clusterprofile"]}}
    yield "AddUpdateNote", {"name": name, "text": "why", "note_id": world.id(8 if scope == world.web else 9)}
    yield "GetInclusionProof", {"name": name, "tree_size": 4}
    if scope == world.tenant:
        yield "GetCheckpoint", {"parent": scope}
        yield "GetConsistencyProof", {"parent": scope, "old_size": 1, "new_size": 4}
        yield "ListLeaves", {"parent": scope, "page_size": 4}


@scenario
def every_method_for_every_sort_of_claims(world):
    record_subjects(world)
    denials = set()
    for number, claims in enumerate(sorts_of_claims(world)):
        caller = claims.caller(f"caller-{number}")
        for scope in (world.tenant, world.web):
            for method, request in questions(world, scope):
                denied = claims.missing(method, scope)
                check(world, method, request, caller, denied)
                if denied:
                    denials.add((f"caller-{number}", method, named_scope(method, scope)))
    check_denials(world, denials)


def record_subjects(world):
    """What is asked about, before any denial takes a place in the log."""
    for number, scope in enumerate((world.tenant, world.web), 1):
        recorded = event("clusterprofile", actor="somebody")
        name = world.record(scope, recorded, world.id(number)).ok().receipt.name
        world.note(name, "why", world.id(8 if scope == world.web else 9)).ok()


def check(world, method, request, caller, denied):
    answer = world.quiet(method, request, caller)
    if denied:
        answer.refused("PERMISSION_DENIED", "PERMISSION_MISSING")
    elif answer.code != "OK":
        raise Failure(f"{answer} was due to be let through for {caller.claims}")
    claims = [": ".join(claim) for claim in caller.claims]
    world.transcript.note(f"{method} by {claims}", [request, answer.code, answer.text, answer.info])


def named_scope(method, scope):
    """The scope that a denial names: proofs are the tenant's."""
    return tenant_of(scope) if method in PROOF_METHODS else scope


def check_denials(world, expected):
    """Each denial is told to the tenant, once for each caller, method and scope; another task records it, later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    told = all_denials(world)
    while len(told) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.05)
        told = all_denials(world)
    same(sorted((who, method, scope) for who, method, scope, *_ in told), sorted(expected), "denials in the log")
    world.transcript.note("denials in the log", sorted(told))


def all_denials(world):
    """Not in their order, which is a matter of time."""
    denials, token = [], ""
    while True:
        request = {"parent": world.tenant, "filter": {"resource_types": ["audit_denial"]}, "page_size": 1000}
        page = world.quiet("ListEvents", {**request, "page_token": token}).ok()
        denials, token = denials + [shown_denial(each) for each in page.events], page.next_page_token
        if not token:
            return denials


def shown_denial(denial):
    told = denial.attributes
    method = told["method"].rpartition("/")[2]
    return (denial.actor.id, method, told["scope"], told["permission"], denial.message)


@scenario
def only_the_actor_annotates_without_the_right(world):
    for number, kind_ in enumerate(("USER", "SERVICE", "SYSTEM")):
        recorded = {**event("clusterprofile"), "actor": {"type": f"ACTOR_TYPE_{kind_}", "id": "ann"}}
        world.record(world.web, recorded, world.id(number)).ok()
    names = [f"{world.web}/events/{world.id(number)}" for number in range(3)]

    def reader(subject, subject_type):
        return Caller(subject).with_claim("x-audit-subject-type", subject_type).role(f"project_viewer@{world.web}")

    note_id = 10
    for caller, annotates in (
        (reader("ann", "user"), (True, False, False)),
        (reader("ann", "service"), (False, True, False)),
        (reader("Ann", "user"), (False, False, False)),
        (Caller("ann").role(f"event_recorder@{world.web}"), (False, False, False)),
        (Caller("ann").role(f"project_viewer@{world.db}"), (False, False, False)),
    ):
        for name, may in zip(names, annotates):
            note_id += 1
            answer = world.quiet("AddUpdateNote", {"name": name, "text": "mine", "note_id": world.id(note_id)}, caller)
            world.transcript.note(f"{name} by {caller.claims}", [answer.code, answer.text])
            same(answer.code, "OK" if may else "PERMISSION_DENIED", f"{name} by {caller.claims}")
    # Who may read is told that there is none; who may not is not.
    nowhere = f"{world.web}/events/{world.id(99)}"
    world.note(nowhere, "mine", "", reader("ann", "user")).refused("NOT_FOUND", "EVENT_NOT_FOUND")
    stranger = Caller("ann").role(f"project_viewer@{world.db}")
    world.note(nowhere, "mine", "", stranger).refused("PERMISSION_DENIED", "PERMISSION_MISSING")


@scenario
def a_batch_needs_the_right_on_every_scope(world):
    caller = Caller("ci").role(f"event_recorder@{world.web}")
    in_web = {"parent": world.web, "event": event(), "event_id": world.id(1)}
    in_db = {"parent": world.db, "event": event(), "event_id": world.id(2)}
    world.batch([in_web], caller=caller).ok()
    world.batch([in_web, in_db], caller=caller.role(f"event_recorder@{world.db}")).ok()
    # Last, because a denial takes a place in the log, sooner or later.
    in_db["event_id"] = world.id(3)
    world.batch([in_web, in_db], caller=caller).refused("PERMISSION_DENIED", "PERMISSION_MISSING")
    same(len(world.walk(world.tenant, filter={"resource_types": ["cluster"]})), 2)
