"""Reading one event, and what a reader of one scope can learn of another."""

from client import Caller
from world import event, holds, same, scenario


@scenario
def an_event_is_found_in_its_scope_and_under_its_tenant(world):
    world.record(world.web, event(), world.id(1)).ok()
    world.record(world.tenant, event(), world.id(2)).ok()
    for name in (f"{world.web}/events/{world.id(1)}", f"{world.tenant}/events/{world.id(1)}"):
        same(world.get(name).ok().event.name, f"{world.web}/events/{world.id(1)}")
    same(world.get(f"{world.tenant}/events/{world.id(2)}").ok().event.name, f"{world.tenant}/events/{world.id(2)}")


@scenario
def what_another_scope_has_is_not_found(world):
    world.record(world.web, event(), world.id(1)).ok()
    world.record(world.tenant, event(), world.id(2)).ok()
    elsewhere = [
        f"{world.db}/events/{world.id(1)}",
        f"{world.web}/events/{world.id(2)}",
        f"{world.web}/events/{world.id(3)}",
        f"{world.tenant}/events/{world.id(3)}",
        f"{world.tenant}-2/events/{world.id(1)}",
        f"{world.tenant}-2/projects/web/events/{world.id(1)}",
    ]
    answers = [world.get(name).refused("NOT_FOUND", "EVENT_NOT_FOUND") for name in elsewhere]
    # Whether another scope has it makes no difference to the words.
    words = {answer.text.replace(name, "NAME") for answer, name in zip(answers, elsewhere)}
    holds(len(words) <= 2 and not any("web" in text for text in words), f"the answers differ: {words}")


@scenario
def a_denied_caller_learns_nothing_of_what_exists(world):
    world.record(world.web, event("clusterprofile"), world.id(1)).ok()
    stranger = Caller("eve").role("tenant_admin@tenants/elsewhere").role(f"project_viewer@{world.db}")
    for scope in (world.tenant, world.web):
        there, nowhere = (f"{scope}/events/{world.id(number)}" for number in (1, 2))
        for ask in (world.get, lambda name, caller: world.note(name, "why", "", caller)):
            answers = [
                ask(name, stranger).refused("PERMISSION_DENIED", "PERMISSION_MISSING") for name in (there, nowhere)
            ]
            same(answers[0].text, answers[1].text)
            same(answers[0].info, answers[1].info)
        listed = world.list(scope, stranger).refused("PERMISSION_DENIED", "PERMISSION_MISSING")
        never = world.list(scope.replace("tenants/a-", "tenants/b-"), stranger)
        same(
            listed.text.replace("tenants/a-", "tenants/b-"),
            never.refused("PERMISSION_DENIED", "PERMISSION_MISSING").text,
        )


@scenario
def names_that_are_none_are_refused(world):
    event_id = world.id(1)
    for name in (
        "",
        "x",
        world.tenant,
        f"{world.tenant}/events",
        f"{world.tenant}/events/",
        f"{world.tenant}/events/x",
        f"{world.tenant}/events/{event_id.upper().replace('0', 'A')}",
        f"{world.tenant}/events/{event_id}/",
        f"/{world.tenant}/events/{event_id}",
        f"{world.tenant}/project/web/events/{event_id}",
        f"{world.tenant}/projects//events/{event_id}",
        f"{world.tenant}/projects/a b/events/{event_id}",
        f"tenants/ä/events/{event_id}",
        f"tenants/-a/events/{event_id}",
        f"tenants/../events/{event_id}",
        f"tenants/{'a' * 129}/events/{event_id}",
        f"tenants/a%2Fb/events/{event_id}",
        f"tenants/a\0/events/{event_id}",
    ):
        world.get(name).breaks("name")
    longest = f"tenants/{'a' * 128}/projects/{'b' * 128}"
    world.record(longest, event(), event_id).ok()
    same(world.get(f"{longest}/events/{event_id}").ok().event.name, f"{longest}/events/{event_id}")


@scenario
def scopes_that_are_none_are_refused(world):
    for parent in (
        "",
        "x",
        "tenants",
        "tenants/",
        "tenants/a/",
        "tenants/a/projects",
        "tenants/a/projects/",
        "*",
        "tenants/*",
        "tenants/a/projects/b/c",
        "tenants/.a",
        "tenants/a b",
        "projects/a",
        "Tenants/a",
    ):
        world.record(parent, event()).breaks("parent")
        for method in ("ListEvents", "ExportCsv", "GetCheckpoint", "GetConsistencyProof", "ListLeaves"):
            world.call(method, {"parent": parent}).breaks("parent")
    for odd in ("a.b", "a_b", "a~b", "a-b", "9", "A"):
        world.record(f"tenants/{odd}", event(), world.id(1)).ok()
        same([each.name for each in world.walk(f"tenants/{odd}")], [f"tenants/{odd}/events/{world.id(1)}"])
