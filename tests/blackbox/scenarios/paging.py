"""Pages: a walk shows everything once, and a token belongs to the request that it came from."""

from client import Caller
from world import HOUR, event, holds, item, same, scenario

ORDERS = ("ORDER_NEWEST_FIRST", "ORDER_OLDEST_FIRST", "ORDER_LOG")


def fill(world, count=23):
    """Events of two projects and the tenant; most tie in time."""
    scopes = [world.tenant, world.web, world.db]
    requests = [
        item(event(resource_id=str(number)), world.id(500 - number, before=HOUR + number // 9), scopes[number % 3])
        for number in range(count)
    ]
    world.batch(requests).ok()


def names(events):
    return [each.name for each in events]


@scenario
def a_walk_shows_all_once_whatever_the_size_of_its_pages(world):
    fill(world)
    for parent, filter_ in ((world.tenant, {}), (world.web, {}), (world.tenant, {"project_ids": ["web", "db"]})):
        for order in ORDERS:
            whole = names(world.walk(parent, order=order, filter=filter_))
            same(len(set(whole)), len(whole))
            for size in (1, 2, 3, 7, 23):
                walked = names(world.walk(parent, page_size=size, order=order, filter=filter_))
                same(walked, whole, f"{parent} {order} in pages of {size}")
    tenant_wide = names(world.walk(world.tenant))
    same(len(tenant_wide), 23)
    of_projects = names(world.walk(world.web)) + names(world.walk(world.db))
    same(sorted(of_projects), sorted(name for name in tenant_wide if "/projects/" in name))


@scenario
def the_size_of_pages_may_change_and_has_bounds(world):
    fill(world)
    token, seen = "", []
    for size in (1, 5, 2, 1000):
        page = world.list(world.tenant, page_size=size, page_token=token).ok()
        token = page.next_page_token
        seen += names(page.events)
    same((token, seen), ("", names(world.walk(world.tenant))))
    for size in (0, 1001, 2_147_483_647):
        same(len(world.list(world.tenant, page_size=size).ok().events), 23)
    for size in (-1, -2_147_483_648):
        world.list(world.tenant, page_size=size).breaks("page_size")
    # Exactly full: there is no more.
    same(world.list(world.tenant, page_size=23).ok().next_page_token, "")


@scenario
def a_walk_does_not_stumble_over_what_is_recorded_meanwhile(world):
    fill(world)
    for order, behind, ahead in (("ORDER_NEWEST_FIRST", 1, 2 * HOUR), ("ORDER_OLDEST_FIRST", 2 * HOUR + 1, 0)):
        before = names(world.walk(world.tenant, order=order))
        first = world.list(world.tenant, page_size=4, order=order).ok()
        late = [
            world.record(world.web, event(), world.id(900, before=place)).ok().receipt.name for place in (behind, ahead)
        ]
        rest = world.walk(world.tenant, page_size=4, order=order, page_token=first.next_page_token)
        same(names(first.events) + names(rest), before + late[1:], order)
    followed = names(world.walk(world.tenant, order="ORDER_LOG", filter={"start_leaf_index": 23}))
    same(len(followed), 4, "those that came later, by their places")


@scenario
def a_token_belongs_to_its_request(world):
    fill(world)
    wanted = {"resource_ids": ["1", "2", "3", "4"]}
    token = world.list(world.tenant, page_size=1, filter=wanted).ok().next_page_token
    same(len(world.list(world.tenant, filter=wanted, page_token=token).ok().events), 3)
    # The same filter, said otherwise.
    repeated = {"resource_ids": ["1", "2", "3", "4"], "start_leaf_index": 0, "tenant_only": False}
    same(len(world.list(world.tenant, filter=repeated, page_token=token, order="ORDER_NEWEST_FIRST").ok().events), 3)
    for parent, request in (
        (world.web, {"filter": wanted}),
        (f"{world.tenant}-2", {"filter": wanted}),
        (world.tenant, {}),
        (world.tenant, {"filter": {"resource_ids": ["1", "2", "3"]}}),
        (world.tenant, {"filter": {**wanted, "tenant_only": True}}),
        (world.tenant, {"filter": {**wanted, "start_leaf_index": 1}}),
        (world.tenant, {"filter": {"actor_ids": ["1", "2", "3", "4"]}}),
        (world.tenant, {"filter": wanted, "order": "ORDER_OLDEST_FIRST"}),
        (world.tenant, {"filter": wanted, "order": "ORDER_LOG"}),
    ):
        refused = world.list(parent, page_token=token, **request)
        refused.refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


@scenario
def a_token_that_was_changed_is_refused(world):
    fill(world)
    token = world.list(world.tenant, page_size=1).ok().next_page_token
    for place, letter in enumerate(token):
        flipped = token[:place] + ("B" if letter == "A" else "A") + token[place + 1 :]
        refused = world.quiet("ListEvents", {"parent": world.tenant, "page_token": flipped})
        refused.refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    for changed in (token[:-1], token[1:], token + "A", token + "=", token * 100, "x", " ", "\0", "ä"):
        world.list(world.tenant, page_token=changed).refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


@scenario
def a_token_gives_no_rights(world):
    fill(world)
    viewer = Caller("ann").role(f"project_viewer@{world.web}")
    token = world.list(world.web, viewer, page_size=1).ok().next_page_token
    stranger = Caller("ann").role(f"project_viewer@{world.db}")
    world.list(world.web, stranger, page_token=token).refused("PERMISSION_DENIED", "PERMISSION_MISSING")
    holds(world.list(world.web, viewer, page_token=token).ok().events, "the one who may goes on")
