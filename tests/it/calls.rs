//! One value for a call of any method, so that a test can ask all of them the same question.

use auditlog::proto::auditlog::v1::{
    AddUpdateNoteRequest, BatchRecordEventsRequest, ExportCsvRequest, GetEventRequest, ListEventsRequest,
    RecordEventRequest,
};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::harness::*;

/// A call of one method.
#[expect(clippy::large_enum_variant, reason = "a test holds few of them, one at a time")]
#[derive(Clone, Debug)]
pub enum Call {
    Record(RecordEventRequest),
    Batch(BatchRecordEventsRequest),
    Get(GetEventRequest),
    List(ListEventsRequest),
    Export(ExportCsvRequest),
    Note(AddUpdateNoteRequest),
}

/// What came back, as text and as bytes.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub text: String,
    pub bytes: Vec<u8>,
    pub metadata: String,
}

impl Reply {
    fn of(response: &Response<impl Message + std::fmt::Debug>) -> Self {
        let (text, bytes) = (format!("{:?}", response.get_ref()), response.get_ref().encode_to_vec());
        Self { text, bytes, metadata: format!("{:?}", response.metadata()) }
    }
}

impl Call {
    pub fn method(&self) -> &'static str {
        match self {
            Self::Record(_) => "RecordEvent",
            Self::Batch(_) => "BatchRecordEvents",
            Self::Get(_) => "GetEvent",
            Self::List(_) => "ListEvents",
            Self::Export(_) => "ExportCsv",
            Self::Note(_) => "AddUpdateNote",
        }
    }

    pub async fn send(self, app: &TestApp, caller: &Caller) -> Result<Reply, Status> {
        self.send_to(app.client.clone(), caller.call(())).await
    }

    /// With whatever metadata `with` has.
    pub async fn send_to(self, mut client: Client, with: Request<()>) -> Result<Reply, Status> {
        let (metadata, extensions, ()) = with.into_parts();
        macro_rules! request {
            ($message:expr) => {
                Request::from_parts(metadata, extensions, $message)
            };
        }
        Ok(match self {
            Self::Record(message) => Reply::of(&client.record_event(request!(message)).await?),
            Self::Batch(message) => Reply::of(&client.batch_record_events(request!(message)).await?),
            Self::Get(message) => Reply::of(&client.get_event(request!(message)).await?),
            Self::List(message) => Reply::of(&client.list_events(request!(message)).await?),
            Self::Note(message) => Reply::of(&client.add_update_note(request!(message)).await?),
            Self::Export(message) => {
                let response = client.export_csv(request!(message)).await?;
                let mut reply = Reply { metadata: format!("{:?}", response.metadata()), ..Reply::default() };
                let mut stream = response.into_inner();
                while let Some(piece) = stream.message().await? {
                    reply.bytes.extend(&piece.data[..]);
                }
                reply.text += &String::from_utf8_lossy(&reply.bytes);
                reply.metadata += &format!("{:?}", stream.trailers().await?);
                reply
            }
        })
    }
}

/// A well-formed call of each method on `scope`. `event_id` is the event to get or annotate, and the id of the one to
/// record.
pub fn every_call(scope: &str, event_id: &str) -> [Call; 6] {
    let name = format!("{scope}/events/{event_id}");
    [
        Call::Record(item(scope, event("cluster", "c"), event_id)),
        Call::Batch(BatchRecordEventsRequest {
            parent: scope.to_owned(),
            requests: vec![item("", event("cluster", "c"), event_id)],
        }),
        Call::Get(GetEventRequest { name: name.clone() }),
        Call::List(list(scope)),
        Call::Export(ExportCsvRequest { parent: scope.to_owned(), ..Default::default() }),
        Call::Note(AddUpdateNoteRequest { name, text: "why".to_owned(), note_id: String::new() }),
    ]
}
