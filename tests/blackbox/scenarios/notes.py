"""Update notes: which events take them, exactly once, their limits, and where they are shown."""

from world import event, holds, same, scenario, uuid_at


def profile(world, number, parent=None):
    """The name of an event that takes notes."""
    return world.record(parent or world.web, event("clusterprofile"), world.id(number)).ok().receipt.name


def texts(world, name):
    return [note.text for note in world.get(name).ok().event.update_notes]


@scenario
def a_note_is_kept_once_however_often_it_is_sent(world):
    name = profile(world, 1)
    author = world.root.with_claim("x-audit-subject-name", "R%C3%B6t")
    # A note's time is that of its commit, so its id may have any.
    note_id = uuid_at(4_102_444_800_000, 1)
    first = world.note(name, "more memory\r\nfor 🦀", note_id, author).ok()
    same((first.event_name, first.note.note_id), (name, note_id))
    same((first.note.leaf_index, first.note.HasField("leaf_index"), len(first.note.salt)), (1, True, 16))
    same((first.note.author.id, first.note.author.name, first.note.body_commitment), ("root", "Röt", b""))
    same(world.note(name, "more memory\r\nfor 🦀", note_id).ok(), first, "whoever repeats it")
    under_tenant = f"{world.tenant}/events/{world.id(1)}"
    same(world.note(under_tenant, "more memory\r\nfor 🦀", note_id).ok(), first)
    same([*world.get(name).ok().event.update_notes], [first.note])
    made = [world.note(name, "same").ok().note.note_id for _ in range(2)]
    holds(made[0] != made[1], "without an id each call is a note of its own")
    same(len(texts(world, name)), 3)


@scenario
def a_note_id_that_is_taken_is_refused(world):
    name, second = profile(world, 1), profile(world, 2, world.db)
    world.note(name, "why", world.id(9)).ok()
    for of, text in ((name, "why not"), (second, "why")):
        answer = world.note(of, text, world.id(9)).refused("ALREADY_EXISTS", "NOTE_DIFFERS")
        same(answer.info, {"note_id": world.id(9)})
        holds("projects/" not in answer.text, f"{answer} tells where the other one is")
    same(texts(world, second), [])
    # The id is the tenant's own, and no event's.
    elsewhere = profile(world, 1, f"{world.tenant}-2")
    world.note(elsewhere, "why", world.id(9)).ok()
    world.note(name, "why", world.id(1)).ok()


@scenario
def only_some_types_take_notes(world):
    takes = profile(world, 1)
    same(world.get(takes).ok().event.accepts_update_notes, True)
    for number, kind in enumerate(("cluster", "clusterprofile2", "Clusterprofile"), 2):
        name = world.record(world.web, event(kind), world.id(number)).ok().receipt.name
        same(world.get(name).ok().event.accepts_update_notes, False)
        world.note(name, "why").refused("FAILED_PRECONDITION", "NOTES_NOT_ACCEPTED")
    # A refusal takes no place in the log.
    same(world.note(takes, "why").ok().note.leaf_index, 4)


@scenario
def what_breaks_the_rules_of_notes_is_named(world):
    name = profile(world, 1)
    for text in ("", "x" * 4097, "🦀" * 1025, "nul\0", "\x1b[31m", "\x85"):
        world.note(name, text).breaks("text")
    for note_id in ("x", "01890a5d-ac96-4000-8000-000000000000", "01890A5D-AC96-7000-8000-000000000000"):
        world.note(name, "why", note_id).breaks("note_id")
    world.note(name, "", "x").breaks("note_id", "text")
    for bad in ("", "x", world.web, f"{world.web}/events/", f"{world.web}/events/x"):
        world.note(bad, "why").breaks("name")
    for scope in (world.db, f"{world.tenant}-2", f"{world.tenant}-2/projects/web"):
        world.note(f"{scope}/events/{world.id(1)}", "why").refused("NOT_FOUND", "EVENT_NOT_FOUND")
    same(texts(world, name), [])
    world.note(name, "🦀" * 1024, world.id(9)).ok()
    world.note(name, "tab\tLF\nCR\r ", world.id(8)).ok()
    same(texts(world, name), ["🦀" * 1024, "tab\tLF\nCR\r "])


@scenario
def notes_come_oldest_first_wherever_they_are_shown(world):
    name, other = profile(world, 1), profile(world, 2, world.db)
    for number, (of, text) in enumerate(((name, "one"), (other, "other"), (name, "two"), (name, "three"))):
        # Ids that fall, so that their order is not the one asked for.
        same(world.note(of, text, world.id(90 - number)).ok().note.leaf_index, number + 2)
    shown = world.get(name).ok().event
    same([note.text for note in shown.update_notes], ["one", "two", "three"])
    for order in ("ORDER_NEWEST_FIRST", "ORDER_OLDEST_FIRST", "ORDER_LOG"):
        for page_size in (1, 10):
            listed = world.walk(world.tenant, page_size=page_size, order=order)
            same([each for each in listed if each.name == name], [shown])


@scenario
def an_event_takes_a_hundred_notes(world):
    name = profile(world, 1)
    for number in range(1, 100):
        request = {"name": name, "text": str(number), "note_id": world.id(1000 - number)}
        world.quiet("AddUpdateNote", request).ok()
    same(world.get(name).ok().event.accepts_update_notes, True)
    last = world.note(name, "100", world.id(900)).ok()
    same(world.get(name).ok().event.accepts_update_notes, False)
    world.note(name, "101").refused("FAILED_PRECONDITION", "NOTES_NOT_ACCEPTED")
    same(world.note(name, "100", world.id(900)).ok(), last)
    same(texts(world, name), [str(number) for number in range(1, 101)])
