"""What scenarios share: a service, a tenant of their own, times, ids, and the making of events."""

from datetime import datetime, timezone

from client import Caller, Failure

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
PERMISSIONS = ("audit.get", "audit.list", "audit.export", "audit.update", "audit.create")

SCENARIOS = []


def scenario(function):
    """Marks a function as a scenario; it is given a World, and has a tenant of its own."""
    SCENARIOS.append(function)
    return function


def root():
    """Somebody who may do everything everywhere."""
    caller = Caller("root")
    for permission in PERMISSIONS:
        caller = caller.may(permission)
    return caller


class World:
    """One scenario's view of the service."""

    def __init__(self, client, transcript, options, scenario_name):
        self.client, self.transcript = client, transcript
        self.now, self.descriptor = options.now, options.descriptor
        self.tenant = f"tenants/{scenario_name.replace('_', '-')[:100]}"
        self.web, self.db = f"{self.tenant}/projects/web", f"{self.tenant}/projects/db"
        self.root = root()

    def id(self, number, before=HOUR):
        """A UUIDv7 that ends in `number`, of a time that lies so many milliseconds before now."""
        return uuid_at(self.now - before, number)

    def call(self, method, request, caller=None):
        """Calls, and puts question and answer into the transcript."""
        caller = caller or self.root
        answer = self.quiet(method, request, caller)
        replies = [self.client.to_json(reply) for reply in answer.replies]
        self.transcript.call(method, caller, request, answer, replies)
        return answer

    def quiet(self, method, request, caller=None):
        """Calls without a word in the transcript: where how often is a matter of time, or what else is said of it."""
        answer = self.client.call(method, caller or self.root, request)
        self.check_request_id(answer)
        return answer

    @staticmethod
    def check_request_id(answer):
        if "x-request-id" not in {**answer.headers, **answer.trailers}:
            raise Failure(f"{answer} came without x-request-id")

    def record(self, parent, event, event_id="", caller=None):
        """Records one event; gives the answer."""
        return self.call("RecordEvent", {"parent": parent, "event": event, "event_id": event_id}, caller)

    def batch(self, requests, parent="", caller=None):
        return self.call("BatchRecordEvents", {"parent": parent, "requests": requests}, caller)

    def get(self, name, caller=None):
        return self.call("GetEvent", {"name": name}, caller)

    def list(self, parent, caller=None, **request):
        return self.call("ListEvents", {"parent": parent, **request}, caller)

    def note(self, name, text, note_id="", caller=None):
        return self.call("AddUpdateNote", {"name": name, "text": text, "note_id": note_id}, caller)

    def walk(self, parent, caller=None, page_size=1000, page_token="", **request):
        """All events of all pages, or of those behind a token."""
        events, token = [], page_token
        while True:
            page = self.list(parent, caller, page_size=page_size, page_token=token, **request).ok()
            events.extend(page.events)
            token = page.next_page_token
            if not token:
                return events


def uuid_at(millis, number):
    time = f"{millis:012x}"
    return f"{time[:8]}-{time[8:]}-7000-8000-{number:012x}"


def rfc3339(millis):
    moment = datetime.fromtimestamp(millis // 1000, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{millis % 1000:03}Z"


def event(kind="cluster", resource_id="c-1", action="CREATE", actor="ann", **more):
    """An event with nothing more than it must have, and what is said."""
    return {
        "action_type": f"ACTION_TYPE_{action}",
        "resource": {"type": kind, "id": resource_id},
        "actor": {"type": "ACTOR_TYPE_USER", "id": actor},
        **more,
    }


def item(event_, event_id="", parent=""):
    """One request of a batch."""
    return {"parent": parent, "event": event_, "event_id": event_id}


def id_of(name):
    return name.rpartition("/")[2]


def same(found, expected, what=""):
    """Fails unless both are equal."""
    if found != expected:
        raise Failure(f"{what or 'found'}: {found!r}, and not {expected!r}")


def holds(condition, what):
    if not condition:
        raise Failure(what)
