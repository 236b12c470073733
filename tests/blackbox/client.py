"""A thin client: who calls, one call, and what came back."""

import grpc
from google.protobuf import json_format

from contract import Contract, status_type

TIMEOUT_SECONDS = 30
STATUS = status_type()


class Failure(AssertionError):
    """The service did not keep its contract."""


class Caller:
    """Somebody who calls, with the claims that they send."""

    def __init__(self, subject=None, claims=()):
        self.claims = tuple(claims) if subject is None else (("x-audit-subject", subject), *claims)

    def with_claim(self, key, value):
        return Caller(claims=(*self.claims, (key, value)))

    def role(self, grant):
        return self.with_claim("x-audit-roles", grant)

    def may(self, permission, scope="*"):
        return self.with_claim("x-audit-permissions", f"{permission}@{scope}")


class Answer:
    """What a call came to: an error with its details, or one reply (of a stream: several)."""

    def __init__(self, request, send):
        self.request = request
        self.replies, self.code, self.text = [], "OK", ""
        self.reason = self.domain = None
        self.info, self.violations = {}, []
        try:
            self.replies, call = send()
        except grpc.RpcError as error:
            call = error
            self.read_error(error)
        self.headers, self.trailers = dict(call.initial_metadata() or ()), dict(call.trailing_metadata() or ())

    def read_error(self, error):
        self.code, self.text = error.code().name, error.details()
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in STATUS.FromString(value).details:
                    self.read_detail(detail.type_url, detail.value)

    def read_detail(self, type_url, value):
        kind = type_url.rpartition("/")[2]
        message = Client.types(kind).FromString(value)
        if kind == "google.rpc.ErrorInfo":
            self.reason, self.domain, self.info = message.reason, message.domain, dict(message.metadata)
        elif kind == "google.rpc.BadRequest":
            self.violations = [(violation.field, violation.description) for violation in message.field_violations]

    @property
    def fields(self):
        """The paths of the fields that are wrong."""
        return [field for field, _ in self.violations]

    def ok(self):
        """The reply, where there must be one."""
        if self.code != "OK":
            raise Failure(f"{self} was due to succeed")
        return self.replies[0] if self.replies else None

    def refused(self, code, reason):
        """The answer itself, where it must be this error."""
        found = (self.code, self.reason, self.domain)
        if found != (code, reason, "auditlog"):
            raise Failure(f"{self} was due to be {code}, {reason}")
        return self

    def breaks(self, *fields):
        """The answer itself, where just these fields must be wrong."""
        self.refused("INVALID_ARGUMENT", "FIELD_INVALID")
        if self.fields != list(fields):
            raise Failure(f"{self} was due to name {list(fields)}")
        return self

    def __str__(self):
        request = str(self.request)
        request = request if len(request) < 500 else request[:500] + "…"
        return f"{self.code} {self.reason} {self.fields} ({self.text}) to {request}"


class Client:
    """Calls the methods of one service by their names, with requests in the words of proto3 JSON."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 4 * 1024 * 1024)])
        self.contract = Contract(self.channel)
        Client.types = self.contract.type

    def message(self, method, request):
        """The request as a message."""
        message = self.contract.methods[method].request()
        return json_format.ParseDict(request, message, descriptor_pool=self.contract.pool)

    def call(self, method, caller, request):
        return self.send(method, caller, self.message(method, request).SerializeToString(), request)

    def send(self, method, caller, data, request=None):
        """Sends bytes, which need not be a message."""
        called = self.contract.methods[method]
        kind = self.channel.unary_stream if called.streams else self.channel.unary_unary
        stub = kind(called.path, response_deserializer=called.reply.FromString)
        options = {"metadata": caller.claims, "timeout": TIMEOUT_SECONDS}

        def unary():
            reply, call = stub.with_call(data, **options)
            return [reply], call

        def stream():
            call = stub(data, **options)
            return list(call), call

        return Answer(request, stream if called.streams else unary)

    def to_json(self, message):
        return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=self.contract.pool)
