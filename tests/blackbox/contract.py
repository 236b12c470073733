"""What a running service says about itself: its methods and message types, by server reflection.

No generated code: the one thing known beforehand is the reflection protocol, which is written down here by hand.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICES = ("auditlog.v1.AuditLogService", "auditlog.v1.ProofService", "grpc.health.v1.Health")
# Named by no service: what error details and leaves are made of.
OTHER_TYPES = ("auditlog.v1.Leaf", "google.rpc.ErrorInfo")
REFLECTION = "grpc.reflection.v1.ServerReflection"

STRING, BYTES, INT32, MESSAGE = 9, 12, 5, 11
ONE, MANY = 1, 3


class Method:
    """One method: its path, its types, and whether it answers with a stream."""

    def __init__(self, contract, descriptor):
        self.path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        self.request = contract.type(descriptor.input_type.full_name)
        self.reply = contract.type(descriptor.output_type.full_name)
        self.streams = descriptor.server_streaming


class Contract:
    """The types and methods that a service reflects."""

    def __init__(self, channel):
        self.pool = descriptor_pool.DescriptorPool()
        self.reflection = Reflection(channel)
        self.files = {}
        for symbol in SERVICES + OTHER_TYPES:
            for file in self.reflection.files_with(symbol):
                self.learn(file)
        services = [self.pool.FindServiceByName(name) for name in SERVICES]
        self.methods = {method.name: Method(self, method) for service in services for method in service.methods}

    def learn(self, file):
        """Adds a file, after the ones that it imports."""
        if file.name in self.files:
            return
        self.files[file.name] = file
        for name in file.dependency:
            if name not in self.files:
                self.learn(self.reflection.file(name))
        self.pool.Add(file)

    def type(self, full_name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(full_name))


class Reflection:
    """A client of grpc.reflection.v1."""

    def __init__(self, channel):
        self.request, self.response = reflection_types()
        self.call = channel.stream_stream(
            f"/{REFLECTION}/ServerReflectionInfo",
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )

    def ask(self, **question):
        (answer,) = self.call(iter([self.request(**question)]), timeout=30)
        return answer

    def services(self):
        answer = self.ask(list_services="*")
        return sorted(service.name for service in answer.list_services_response.service)

    def files_with(self, symbol):
        return self.files_in(self.ask(file_containing_symbol=symbol))

    def file(self, name):
        """The file of that name; its imports may come with it."""
        files = self.files_in(self.ask(file_by_filename=name))
        return next(file for file in files if file.name == name)

    @staticmethod
    def files_in(answer):
        encoded = answer.file_descriptor_response.file_descriptor_proto
        return [descriptor_pb2.FileDescriptorProto.FromString(data) for data in encoded]


def reflection_types():
    """ServerReflectionRequest and ServerReflectionResponse, as far as they are used here."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="grpc.reflection.v1", syntax="proto3")
    add_message(
        file,
        "ServerReflectionRequest",
        ("file_by_filename", 3, STRING, ONE),
        ("file_containing_symbol", 4, STRING, ONE),
        ("list_services", 7, STRING, ONE),
        oneof="message_request",
    )
    add_message(file, "FileDescriptorResponse", ("file_descriptor_proto", 1, BYTES, MANY))
    add_message(file, "ServiceResponse", ("name", 1, STRING, ONE))
    add_message(file, "ListServiceResponse", ("service", 1, "ServiceResponse", MANY))
    add_message(
        file,
        "ServerReflectionResponse",
        ("file_descriptor_response", 4, "FileDescriptorResponse", ONE),
        ("list_services_response", 6, "ListServiceResponse", ONE),
        oneof="message_response",
    )
    return made_from(file, "ServerReflectionRequest", "ServerReflectionResponse")


def status_type():
    """google.rpc.Status, which is what grpc-status-details-bin holds."""
    any_file = descriptor_pb2.FileDescriptorProto(name="details.proto", package="google.rpc", syntax="proto3")
    add_message(any_file, "Detail", ("type_url", 1, STRING, ONE), ("value", 2, BYTES, ONE))
    add_message(
        any_file, "Status", ("code", 1, INT32, ONE), ("message", 2, STRING, ONE), ("details", 3, "Detail", MANY)
    )
    return made_from(any_file, "Status")[0]


def add_message(file, name, *fields, oneof=None):
    message = file.message_type.add(name=name)
    if oneof:
        message.oneof_decl.add(name=oneof)
    for field_name, number, kind, label in fields:
        field = message.field.add(name=field_name, number=number, label=label)
        if isinstance(kind, str):
            field.type, field.type_name = MESSAGE, f".{file.package}.{kind}"
        else:
            field.type = kind
        if oneof:
            field.oneof_index = 0


def made_from(file, *names):
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}")) for name in names]
