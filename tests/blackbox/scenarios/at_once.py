"""Many calls at once: whoever comes first, one id is one event, and every event has a place of its own."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from world import event, same, scenario

CALLERS = 16


def at_once(world, method, requests):
    """Sends all at the same time. Who came first is a matter of chance, so only what they add up to is told."""
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda request: world.quiet(method, request), requests))
    told = sorted(Counter((answer.code, answer.reason) for answer in answers).items(), key=str)
    world.transcript.note(f"{len(requests)} times {method} at once", told)
    return answers


@scenario
def many_with_one_id_and_one_content_are_one_event(world):
    request = {"parent": world.web, "event": event("clusterprofile"), "event_id": world.id(1)}
    answers = at_once(world, "RecordEvent", [request] * 40)
    for answer in answers:
        same(answer.ok(), answers[0].ok())
    same(len(world.walk(world.tenant)), 1)
    note = {"name": f"{world.web}/events/{world.id(1)}", "text": "once", "note_id": world.id(2)}
    notes = at_once(world, "AddUpdateNote", [note] * 40)
    for answer in notes:
        same(answer.ok(), notes[0].ok())
    same(len(world.get(note["name"]).ok().event.update_notes), 1)


@scenario
def of_many_contents_for_one_id_one_is_stored(world):
    requests = [
        {"parent": world.web, "event": event(resource_id=str(number)), "event_id": world.id(1)} for number in range(40)
    ]
    answers = at_once(world, "RecordEvent", requests)
    stored = [request for request, answer in zip(requests, answers) if answer.code == "OK"]
    for answer in answers:
        if answer.code != "OK":
            answer.refused("ALREADY_EXISTS", "EVENT_DIFFERS")
    same(len(stored), 1, "calls that were let through")
    listed = world.quiet("ListEvents", {"parent": world.tenant}).ok().events
    same([each.resource.id for each in listed], [stored[0]["event"]["resource"]["id"]])


@scenario
def places_are_without_gaps_whoever_comes_first(world):
    requests = [
        {
            "parent": [world.tenant, world.web, world.db][number % 3],
            "requests": [
                {"event": event(), "event_id": world.id(number * 10 + each)} for each in range(1 + number % 5)
            ],
        }
        for number in range(40)
    ]
    answers = at_once(world, "BatchRecordEvents", requests)
    places = [[receipt.leaf_index for receipt in answer.ok().receipts] for answer in answers]
    for batch in places:
        same(batch, [*range(batch[0], batch[0] + len(batch))], "places of one batch")
    same(sorted(sum(places, [])), [*range(sum(map(len, places)))])
    followed = world.quiet("ListEvents", {"parent": world.tenant, "order": "ORDER_LOG", "page_size": 1000}).ok().events
    same([each.leaf_index for each in followed], sorted(sum(places, [])))
