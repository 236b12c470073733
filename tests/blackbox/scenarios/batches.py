"""Recording many events at once: all or none, in order, of one tenant."""

from world import event, holds, item, same, scenario


def places(answer):
    return [receipt.leaf_index for receipt in answer.ok().receipts]


def count(world):
    return len(world.walk(world.tenant))


@scenario
def receipts_come_in_the_order_of_the_requests(world):
    requests = [
        item(event(resource_id="later"), world.id(9)),
        item(event(resource_id="in web"), world.id(2), world.web),
        item(event(resource_id="without an id")),
        item(event(resource_id="earlier"), world.id(1, before=7_200_000), world.db),
    ]
    answer = world.batch(requests, world.tenant)
    same(places(answer), [0, 1, 2, 3])
    names = [receipt.name for receipt in answer.ok().receipts]
    same(names[1], f"{world.web}/events/{world.id(2)}")
    same(len({receipt.record_time.ToJsonString() for receipt in answer.ok().receipts}), 1, "times of one commit")
    for name, request in zip(names, requests):
        same(world.get(name).ok().event.resource.id, request["event"]["resource"]["id"])


@scenario
def a_batch_mixes_new_events_with_repeated_ones(world):
    stored = world.record(world.web, event(), world.id(1)).ok().receipt
    requests = [
        item(event(resource_id="new"), world.id(2)),
        item(event(), world.id(1), world.web),
        item(event(resource_id="new"), world.id(2)),
        item(event(resource_id="last"), world.id(3)),
    ]
    first = world.batch(requests, world.tenant).ok()
    same([receipt.leaf_index for receipt in first.receipts], [1, 0, 1, 2])
    same(first.receipts[1], stored)
    same(world.batch(requests, world.tenant).ok(), first, "the batch again")
    same(world.batch(requests[::-1], world.tenant).ok().receipts[3], first.receipts[0])
    same(count(world), 3)


@scenario
def a_batch_that_fails_stores_nothing(world):
    world.record(world.tenant, event(), world.id(1)).ok()
    good = item(event(resource_id="good"), world.id(2))
    for request in (
        item(event(resource_id="other"), world.id(1)),
        item(event(), world.id(1), world.web),
        item(event(resource_id="better"), world.id(2)),
    ):
        answer = world.batch([good, request], world.tenant).refused("ALREADY_EXISTS", "EVENT_DIFFERS")
        same(answer.info, {"event_id": request["event_id"], "index": "1"})
    bad = [item(event("", ""), "x"), {"parent": world.web}, item(event(message="\0"))]
    world.batch([good, *bad], world.tenant).breaks(
        "requests[1].event_id",
        "requests[1].event.resource.type",
        "requests[1].event.resource.id",
        "requests[2].event",
        "requests[3].event.message",
    )
    same(count(world), 1)
    # No hole was left.
    same(places(world.batch([good], world.tenant)), [1])


@scenario
def a_batch_is_of_one_tenant(world):
    one = event()
    world.batch([], "").breaks("parent")
    world.batch([], world.tenant).breaks("requests")
    world.batch([item(one)]).breaks("requests[0].parent")
    world.batch([item(one, parent=world.tenant), item(one)]).breaks("requests[1].parent")
    other = "tenants/somebody-else"
    world.batch([item(one), item(one, parent=other)], world.tenant).breaks("requests[1].parent")
    world.batch([item(one, parent=world.tenant), item(one, parent=other)]).breaks("requests[1].parent")
    world.batch([item(one, parent=world.tenant)], world.web).breaks("requests[0].parent")
    world.batch([item(one, parent=world.db)], world.web).breaks("requests[0].parent")
    same(count(world), 0)
    same(places(world.batch([item(one, parent=world.web), item(one, parent=world.db)])), [0, 1])
    same(places(world.batch([item(one, parent=world.web), item(one)], world.web)), [2, 3])


@scenario
def a_batch_takes_a_thousand_events_and_no_more(world):
    requests = [item(event(resource_id=str(number)), world.id(number)) for number in range(1001)]
    world.quiet("BatchRecordEvents", {"parent": world.web, "requests": requests}).breaks("requests")
    answer = world.quiet("BatchRecordEvents", {"parent": world.web, "requests": requests[:1000]})
    same(places(answer), [*range(1000)])
    again = world.quiet("BatchRecordEvents", {"parent": world.web, "requests": requests[:1000]})
    same(again.ok(), answer.ok())
    for size, given in ((0, 50), (1000, 1000), (1001, 1000), (999, 999)):
        page = world.quiet("ListEvents", {"parent": world.tenant, "page_size": size}).ok()
        same(len(page.events), given, f"events of a page of {size}")
        world.transcript.note(f"page of {size}", [page.events[0].name, page.events[-1].name])


@scenario
def too_large_is_told_as_a_field(world):
    value = "x" * 8000
    large = event(changes=[{"field": "f", "old_value": value}] * 9)
    world.quiet("RecordEvent", {"parent": world.web, "event": large}).breaks("event")
    nearly = event(changes=[{"field": "f", "old_value": value}] * 8)
    requests = [item(nearly) for _ in range(66)]
    answer = world.quiet("BatchRecordEvents", {"parent": world.web, "requests": requests})
    answer.refused("INVALID_ARGUMENT", "FIELD_INVALID")
    world.transcript.note("a batch above 4 MiB", [answer.text, answer.violations])
    same(count(world), 0)
    holds(world.quiet("RecordEvent", {"parent": world.web, "event": nearly}).ok(), "just below is taken")
