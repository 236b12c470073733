"""Lists: every filter and every pair of filters, in all orders and scopes, held against a model written here."""

from itertools import combinations

from transcript import micros
from world import DAY, HOUR, event, id_of, item, rfc3339, same, scenario

ORDERS = ("ORDER_UNSPECIFIED", "ORDER_NEWEST_FIRST", "ORDER_OLDEST_FIRST", "ORDER_LOG")

# Project ("" is the tenant itself), action, resource type and id, actor type and id, ms before the newest; in the order
# of the log. Some tie in time, and ids fall while places rise, so that no two orders are the same.
ROWS = [
    ("", "CREATE", "cluster", "c-1", "USER", "ann", 10),
    ("web", "UPDATE", "cluster", "c-1", "USER", "bob", 40 * DAY),
    ("db", "DELETE", "cluster", "c-2", "SERVICE", "ci", 400 * DAY),
    ("web", "CREATE", "role", "r-1", "USER", "ann", 40 * DAY),
    ("", "UPDATE", "role", "r-1", "SYSTEM", "", 5),
    ("db", "CREATE", "profile", "p-1", "USER", "bob", 15),
    ("web", "DELETE", "profile", "p-1", "SERVICE", "ci", 10),
    ("", "DELETE", "cluster", "c-3", "USER", "ann", 40 * DAY),
    ("db", "UPDATE", "cluster", "c-1", "SERVICE", "ann", 401 * DAY),
    ("web", "UPDATE", "cluster", "c-2", "SYSTEM", "", 0),
    ("web", "CREATE", "cluster", "C-1", "USER", "Ann", 10),
    ("web2", "CREATE", "cluster", "c-1%", "USER", "ann", 10),
]


def millis(world, row):
    return world.now - HOUR - row[6]


def row_id(world, place):
    return world.id(100 - place, before=HOUR + ROWS[place][6])


def fill(world):
    """Records the rows, and a neighbour whose name only begins the same."""
    requests = []
    for place, (project, action, kind, resource_id, actor_type, actor_id, _) in enumerate(ROWS):
        recorded = {**event(kind, resource_id, action), "actor": {"type": f"ACTOR_TYPE_{actor_type}", "id": actor_id}}
        parent = f"{world.tenant}/projects/{project}" if project else world.tenant
        requests.append(item(recorded, row_id(world, place), parent))
    world.batch(requests).ok()
    world.record(f"{world.tenant}-2", event(), world.id(1)).ok()


def filters(world):
    """One or two filters for each field, by name."""

    def time(before):
        return rfc3339(world.now - HOUR - before)

    return {
        "create": {"action_types": ["ACTION_TYPE_CREATE"]},
        "update or delete": {"action_types": ["ACTION_TYPE_UPDATE", "ACTION_TYPE_DELETE"]},
        "clusters": {"resource_types": ["cluster"]},
        "roles or profiles": {"resource_types": ["role", "profile", "role"]},
        "c-1": {"resource_ids": ["c-1"]},
        "c-2 or p-1": {"resource_ids": ["c-2", "p-1"]},
        "by ann": {"actor_ids": ["ann"]},
        "by bob or ci": {"actor_ids": ["bob", "ci"]},
        "by the system": {"actor_types": ["ACTOR_TYPE_SYSTEM"]},
        "by people or services": {"actor_types": ["ACTOR_TYPE_USER", "ACTOR_TYPE_SERVICE"]},
        "web": {"project_ids": ["web"]},
        "web or db": {"project_ids": ["web", "db"]},
        "tenant only": {"tenant_only": True},
        "since": {"start_time": time(40 * DAY)},
        "until": {"end_time": time(10)},
        "between": {"start_time": time(400 * DAY), "end_time": time(5)},
        "from place 4": {"start_leaf_index": 4},
    }


def matches(world, place, wanted):
    """The model: whether the row at a place matches every field."""
    row = ROWS[place]
    texts = {"resource_types": row[2], "resource_ids": row[3], "actor_ids": row[5], "project_ids": row[0]}
    texts["action_types"], texts["actor_types"] = f"ACTION_TYPE_{row[1]}", f"ACTOR_TYPE_{row[4]}"
    time = millis(world, row) * 1000
    checks = {
        **{field: lambda values, text=text: text in values for field, text in texts.items()},
        "tenant_only": lambda _: row[0] == "",
        "start_time": lambda bound: time >= micros(bound),
        "end_time": lambda bound: time < micros(bound),
        "start_leaf_index": lambda bound: place >= bound,
    }
    return all(checks[field](value) for field, value in wanted.items())


def expected(world, wanted, order, project=None):
    """The ids that a list must show, in their order."""
    places = [place for place in range(len(ROWS)) if matches(world, place, wanted)]
    places = [place for place in places if project is None or ROWS[place][0] == project]
    if order != "ORDER_LOG":
        places.sort(key=lambda place: row_id(world, place), reverse=order != "ORDER_OLDEST_FIRST")
    return [row_id(world, place) for place in places]


def check(world, wanted, orders=ORDERS, projects=(None, "web", "db")):
    for order in orders:
        for project in projects:
            if project and ("project_ids" in wanted or "tenant_only" in wanted):
                continue
            parent = f"{world.tenant}/projects/{project}" if project else world.tenant
            listed = world.walk(parent, filter=wanted, order=order)
            found = [id_of(each.name) for each in listed]
            same(found, expected(world, wanted, order, project), f"{parent} {order} {wanted}")


@scenario
def each_filter_alone_in_all_orders_and_scopes(world):
    fill(world)
    check(world, {})
    for wanted in filters(world).values():
        check(world, wanted)


@scenario
def each_pair_of_filters(world):
    fill(world)
    pairs = combinations(filters(world).values(), 2)
    for number, (one, other) in enumerate(pairs):
        if not one.keys() & other.keys():
            check(world, {**one, **other}, [ORDERS[1 + number % 3]], [None])


@scenario
def values_are_compared_exactly(world):
    fill(world)
    for wanted in (
        {"resource_types": ["Cluster"]},
        {"resource_types": ["cluster%"]},
        {"resource_ids": ["c-"]},
        {"resource_ids": ["c_1"]},
        {"resource_ids": ["c-1%"]},
        {"resource_ids": ["C-1"]},
        {"actor_ids": ["an_"]},
        {"actor_ids": ["Ann"]},
        {"actor_ids": ["' OR 1=1 --"]},
        {"project_ids": ["we"]},
        {"project_ids": ["WEB"]},
        {"project_ids": ["web"], "tenant_only": True},
    ):
        check(world, wanted, ["ORDER_LOG"], [None])


@scenario
def bounds_between_milliseconds_are_rounded_up(world):
    fill(world)
    whole = world.now - HOUR - 10
    for nanos in (1, 999_999):
        between = f"{rfc3339(whole)[:-1]}{nanos:06}Z"
        for field in ("start_time", "end_time"):
            found = [each.name for each in world.walk(world.tenant, filter={field: between})]
            next_whole = [each.name for each in world.walk(world.tenant, filter={field: rfc3339(whole + 1)})]
            same(found, next_whole, f"{field} at {between}")
    time = rfc3339(whole)
    check(world, {"start_time": time, "end_time": time}, projects=[None])
    check(world, {"start_time": time, "end_time": "0001-01-01T00:00:00Z"}, projects=[None])
    for far in ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999999999Z"):
        for field in ("start_time", "end_time"):
            shown = len(world.walk(world.tenant, filter={field: far}))
            same(shown, len(ROWS) if (field == "start_time") == (far < "2000") else 0, f"{field} {far}")


@scenario
def scopes_that_nobody_has_recorded_in_are_empty(world):
    world.record(world.web, event(), world.id(1)).ok()
    for parent in (f"{world.tenant}-3", world.db, f"{world.tenant}/projects/we", f"{world.tenant}/projects/WEB"):
        same(world.walk(parent), [])


@scenario
def lists_show_what_get_shows(world):
    for number, kind in enumerate(("clusterprofile", "cluster")):
        world.record(world.web, event(kind, message=f"nr. {number}"), world.id(number)).ok()
    world.note(f"{world.web}/events/{world.id(0)}", "why", world.id(9)).ok()
    for listed in world.walk(world.tenant):
        same(listed, world.get(listed.name).ok().event)
