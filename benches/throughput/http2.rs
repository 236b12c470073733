//! The client's side of one HTTP/2 connection, with as much of RFC 9113 as gRPC calls of one request need. The load shares two
//! processors with what it measures, as `pgbench` does, and a client for all purposes would take a tenth of them.

use std::{collections::HashMap, net::SocketAddr};

use prost::bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
/// What a peer may send at first, of each stream and of all (section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
/// What a frame holds at most, if the peer says nothing else (section 6.5.2).
const FRAME_BYTES: usize = 16_384;
/// What the peer may send of each stream, and of all; once half of it has come, as much again.
const STREAM_WINDOW: u32 = 8 << 20;
const WINDOW: u32 = 64 << 20;

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const WINDOW_UPDATE: u8 = 8;
}

mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

const INITIAL_WINDOW_SIZE: u16 = 4;

/// One connection, and the calls that are under way on it.
pub struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    input: BytesMut,
    head: Head,
    calls: HashMap<u32, Call>,
    next_stream: u32,
    /// What may still be sent, of all streams, and of a new one.
    window: i64,
    stream_window: i64,
    credit: Credit,
}

/// What has come since the peer was last told that it may send more.
#[derive(Default)]
struct Credit(u32);

/// A call under way.
struct Call {
    caller: usize,
    /// What is still to be sent, and how much of it may be.
    rest: Bytes,
    window: i64,
    received: usize,
    credit: Credit,
}

/// A call that has succeeded.
pub struct Reply {
    /// Who was said to call.
    pub caller: usize,
    /// The length of what came.
    pub bytes: usize,
}

/// What each call begins with. The first one on a connection names the fields, the others refer to that (RFC 7541).
struct Head {
    fields: Vec<(String, String)>,
    is_known: bool,
}

impl Head {
    /// `:method POST` and `:scheme http` of the static table.
    const STATIC: [u8; 2] = [0x83, 0x86];
    /// Where the dynamic table begins, with what was named last.
    const DYNAMIC: u8 = 62;

    fn block(&mut self) -> Vec<u8> {
        let mut block = Self::STATIC.to_vec();
        if std::mem::replace(&mut self.is_known, true) {
            let count = u8::try_from(self.fields.len()).expect("few fields");
            block.extend((0..count).rev().map(|from_last| 0x80 | (Self::DYNAMIC + from_last)));
        } else {
            self.fields.iter().for_each(|(name, value)| name_field(&mut block, name, value));
        }
        block
    }
}

/// A field with its name, for the dynamic table (RFC 7541, section 6.2.1).
fn name_field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x40);
    for text in [name, value] {
        let len = u8::try_from(text.len()).ok().filter(|len| *len < 127);
        block.push(len.expect("a short text"));
        block.extend(text.as_bytes());
    }
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    out.extend([len[1], len[2], len[3], kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

impl Connection {
    /// Connects, for calls that all have these fields beside `:method` and `:scheme`.
    pub async fn open(address: SocketAddr, fields: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("the service listens");
        stream.set_nodelay(true).expect("a TCP stream");
        let mut out = PREFACE.to_vec();
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &STREAM_WINDOW.to_be_bytes()].concat();
        put_frame(&mut out, kind::SETTINGS, 0, 0, &setting);
        let more = WINDOW - u32::try_from(DEFAULT_WINDOW).expect("a small number");
        put_frame(&mut out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self {
            stream,
            out,
            input: BytesMut::new(),
            head: Head { fields, is_known: false },
            calls: HashMap::new(),
            next_stream: 1,
            window: DEFAULT_WINDOW,
            stream_window: DEFAULT_WINDOW,
            credit: Credit::default(),
        }
    }

    /// Begins a call. It is sent by [`Self::flush`].
    pub fn call(&mut self, caller: usize, body: Bytes) {
        let id = self.next_stream;
        self.next_stream += 2;
        put_frame(&mut self.out, kind::HEADERS, flag::END_HEADERS, id, &self.head.block());
        let mut call = Call { caller, rest: body, window: self.stream_window, received: 0, credit: Credit::default() };
        call.send(id, &mut self.window, &mut self.out);
        self.calls.insert(id, call);
    }

    /// Sends what there is to be sent.
    pub async fn flush(&mut self) {
        self.stream.write_all(&self.out).await.expect("an open connection");
        self.out.clear();
    }

    /// Waits for something to come, and gives the replies that have come with it, none perhaps. May be cancelled.
    pub async fn replies(&mut self, replies: &mut Vec<Reply>) {
        self.input.reserve(1 << 16);
        let read = self.stream.read_buf(&mut self.input).await.expect("an open connection");
        assert!(read > 0, "the service has closed the connection");
        while let Some(header) = self.input.first_chunk::<HEADER_BYTES>() {
            let [l0, l1, l2, kind, flags, id @ ..] = *header;
            let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if self.input.len() < HEADER_BYTES + len {
                return;
            }
            self.input.advance(HEADER_BYTES);
            let payload = self.input.split_to(len);
            replies.extend(self.take(kind, flags, u32::from_be_bytes(id), &payload));
        }
    }

    fn take(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Option<Reply> {
        match kind {
            kind::DATA => self.data(id, payload.len()),
            kind::HEADERS if flags & flag::END_STREAM != 0 => return Some(self.end(id)),
            kind::HEADERS => {}
            kind::SETTINGS if flags & flag::ACK == 0 => self.settings(payload),
            kind::SETTINGS => {}
            kind::PING if flags & flag::ACK == 0 => put_frame(&mut self.out, kind::PING, flag::ACK, 0, payload),
            kind::WINDOW_UPDATE => self.more_window(id, payload),
            _ => panic!("a frame of kind {kind} for stream {id}: {payload:?}"),
        }
        None
    }

    fn data(&mut self, id: u32, len: usize) {
        let call = self.calls.get_mut(&id).expect("a stream under way");
        call.received += len;
        call.credit.received(id, len, STREAM_WINDOW, &mut self.out);
        self.credit.received(0, len, WINDOW, &mut self.out);
    }

    /// A unary call that failed has no message before its trailers. Whoever reads a stream sees to it that it is whole.
    fn end(&mut self, id: u32) -> Reply {
        let call = self.calls.remove(&id).expect("a stream under way");
        assert!(call.received > 0, "a call failed");
        Reply { caller: call.caller, bytes: call.received }
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let (key, value) = setting.split_at(2);
            if key == INITIAL_WINDOW_SIZE.to_be_bytes() {
                let window = i64::from(u32::from_be_bytes(value.try_into().expect("four bytes")));
                self.calls.values_mut().for_each(|call| call.window += window - self.stream_window);
                self.stream_window = window;
            }
        }
        put_frame(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        self.send_rests();
    }

    fn more_window(&mut self, id: u32, payload: &[u8]) {
        let more = i64::from(u32::from_be_bytes(payload.try_into().expect("four bytes")));
        match self.calls.get_mut(&id) {
            Some(call) => call.window += more,
            None if id == 0 => self.window += more,
            None => {}
        }
        self.send_rests();
    }

    fn send_rests(&mut self) {
        for (id, call) in self.calls.iter_mut().filter(|(_, call)| !call.rest.is_empty()) {
            call.send(*id, &mut self.window, &mut self.out);
        }
    }
}

impl Credit {
    fn received(&mut self, id: u32, len: usize, window: u32, out: &mut Vec<u8>) {
        self.0 += u32::try_from(len).expect("a frame");
        if self.0 >= window / 2 {
            put_frame(out, kind::WINDOW_UPDATE, 0, id, &self.0.to_be_bytes());
            self.0 = 0;
        }
    }
}

impl Call {
    /// Sends as much as may be.
    fn send(&mut self, id: u32, window: &mut i64, out: &mut Vec<u8>) {
        while !self.rest.is_empty() {
            let most = usize::try_from(self.window.min(*window)).unwrap_or(0);
            let part = self.rest.split_to(most.min(FRAME_BYTES).min(self.rest.len()));
            if part.is_empty() {
                return;
            }
            let flags = if self.rest.is_empty() { flag::END_STREAM } else { 0 };
            put_frame(out, kind::DATA, flags, id, &part);
            let sent = i64::try_from(part.len()).expect("a frame");
            (self.window, *window) = (self.window - sent, *window - sent);
        }
    }
}
