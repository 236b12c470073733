"""Texts of all languages, and those that look like something else, come back as they went in."""

from world import event, id_of, item, same, scenario

WORDS = [
    "Zürich",
    "Zu\u0308rich",
    "世界",
    "שלום \u202eabc",
    "🦀👩‍👩‍👧",
    "\ufeffbom",
    "\u2028line\u2029",
    "\ufffd\uffff\U0010ffff",
    "a\tb\nc\rd",
    "' OR 1=1 --",
    '"; DROP TABLE events; --',
    "%s %n {} $1 ?",
    "\\0 \\u0000 \\",
    "null",
    "İi ıI ß ẞ ﬁ",
    " leading and trailing ",
    "<script>",
]


def everywhere(text):
    return event(
        resource_id=text,
        kind=text,
        actor=text,
        message=text,
        changes=[{"field": text, "old_value": text, "new_value": text}],
        context={"source_ip": text, "user_agent": text},
        attributes={text: text, "k": text},
    )


@scenario
def every_text_comes_back_as_it_went_in(world):
    ids = [world.id(number) for number in range(len(WORDS))]
    world.batch([item(everywhere(text), event_id) for text, event_id in zip(WORDS, ids)], world.web).ok()
    for text, event_id in zip(WORDS, ids):
        got = world.client.to_json(world.get(f"{world.web}/events/{event_id}").ok().event)
        same({key: got[key] for key in everywhere(text)}, everywhere(text))
        # And once more, with the same id: it is the same content.
        world.record(world.web, everywhere(text), event_id).ok()


@scenario
def every_text_filters_for_itself_alone(world):
    ids = [world.id(number) for number in range(len(WORDS))]
    world.batch([item(everywhere(text), event_id) for text, event_id in zip(WORDS, ids)], world.web).ok()
    for text, event_id in zip(WORDS, ids):
        for field in ("resource_types", "resource_ids", "actor_ids"):
            found = [id_of(each.name) for each in world.walk(world.tenant, filter={field: [text]})]
            same(found, [event_id], f"{field} {text!r}")


@scenario
def forms_of_one_letter_are_different_contents(world):
    world.record(world.web, event(message=WORDS[0]), world.id(1)).ok()
    world.record(world.web, event(message=WORDS[1]), world.id(1)).refused("ALREADY_EXISTS", "EVENT_DIFFERS")


@scenario
def attributes_are_told_apart_by_case_and_bytes(world):
    attributes = {"a": "1", "A": "2", "ä": "3", "a\u0308": "4", "a ": "5", "aa": "6", "🦀": "7", "\uffff": "8"}
    name = world.record(world.web, event(attributes=attributes), world.id(1)).ok().receipt.name
    same(dict(world.get(name).ok().event.attributes), attributes)


@scenario
def names_of_callers_come_back_decoded(world):
    for number, (sent, shown) in enumerate(
        (("R%C3%B6t", "Röt"), ("%F0%9F%A6%80", "🦀"), ("a%20b%2Cc", "a b,c"), ("50%25", "50%"))
    ):
        caller = world.root.with_claim("x-audit-subject-name", sent)
        name = world.record(world.web, event(), world.id(number), caller).ok().receipt.name
        same(world.get(name).ok().event.recorder.name, shown)
