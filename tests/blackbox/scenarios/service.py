"""The service itself: health, reflection, the types it shows, request ids."""

import grpc
from google.protobuf import descriptor_pb2

from client import TIMEOUT_SECONDS, Caller
from world import event, holds, same, scenario

SERVICES = [
    "auditlog.v1.AuditLogService",
    "auditlog.v1.ProofService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
]


def code_of(call):
    """The status code of a call that is outside of the contract."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@scenario
def health_needs_no_claims(world):
    for service in ["", *SERVICES[:2]]:
        reply = world.client.call("Check", Caller(), {"service": service}).ok()
        same(world.client.to_json(reply), {"status": "SERVING"}, service)
    unknown = world.client.call("Check", Caller(), {"service": "auditlog.v1.Nothing"})
    same(unknown.code, "NOT_FOUND")


@scenario
def health_can_be_watched(world):
    watch = world.client.contract.methods["Watch"]
    stub = world.client.channel.unary_stream(watch.path, response_deserializer=watch.reply.FromString)
    call = stub(b"", timeout=TIMEOUT_SECONDS)
    same(world.client.to_json(next(call)), {"status": "SERVING"})
    call.cancel()


@scenario
def reflection_lists_the_services_and_their_ten_methods(world):
    contract = world.client.contract
    services = contract.reflection.services()
    same(services, SERVICES)
    methods = sorted(method.path for method in contract.methods.values())
    world.transcript.note("services", services)
    world.transcript.note("methods", methods)
    same(code_of(lambda: contract.reflection.files_with("auditlog.v1.Nothing")), "NOT_FOUND")
    ours = [path for path in methods if path.startswith("/auditlog.v1.")]
    same(len(ours), 10, "methods")


@scenario
def reflection_tells_what_the_descriptor_file_tells(world):
    """With source information and annotations: tools show them."""
    if not world.descriptor:
        return
    with open(world.descriptor, "rb") as file:
        described = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    reflected = world.client.contract.files
    names = [file.name for file in described.file]
    for name in ("audit_log_service", "proof_service", "event", "leaf", "error_reason"):
        holds(f"auditlog/v1/{name}.proto" in names, f"{name} is not in the descriptor file")
    for file in described.file:
        if file.name in reflected and file.name.startswith("auditlog/"):
            same(reflected[file.name].SerializeToString(), file.SerializeToString(), file.name)
            holds(file.source_code_info.location, f"{file.name} has no comments")


@scenario
def a_request_id_comes_back(world):
    own = world.root.with_claim("x-request-id", "req-4711")
    for request in ({"parent": world.tenant}, {"parent": "nothing"}):
        answer = world.call("ListEvents", request, own)
        same({**answer.headers, **answer.trailers}["x-request-id"], "req-4711")
    first, second = (world.record(world.tenant, event()) for _ in range(2))
    made = [{**answer.headers, **answer.trailers}["x-request-id"] for answer in (first, second)]
    holds(made[0] != made[1], f"two calls have the request id {made[0]}")


@scenario
def what_is_no_message_and_no_method_is_refused(world):
    for data in (b"\xff\xff\xff", b"\x0a\x03\xff\xfe\xfd", b"\x0a\x7fshort"):
        answer = world.client.send("GetEvent", world.root, data).refused("INVALID_ARGUMENT", "FIELD_INVALID")
        world.transcript.note(f"{data!r}", [answer.code, answer.text, answer.reason])
    call = world.client.channel.unary_unary("/auditlog.v1.AuditLogService/DropEvents")
    same(code_of(lambda: call(b"", metadata=world.root.claims)), "UNIMPLEMENTED")
