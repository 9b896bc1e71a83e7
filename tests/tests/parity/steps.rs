//! Peers that speak bytes, step by step.

use std::{io, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    case::Step,
    frames, hello,
    wire::{End, Wire, body},
};

/// Between two pieces: without a pause the kernel would join them.
pub(crate) const SEGMENT: Duration = Duration::from_millis(2);

/// What becomes of a connection after its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Go,
    Close,
    Reset,
}

impl Then {
    /// Closes or resets if that is what comes.
    pub(crate) fn carry_out(self, wire: &Wire) -> io::Result<()> {
        match self {
            Self::Go | Self::Close => Ok(()),
            Self::Reset => wire.linger_no_more(),
        }
    }
}

/// Runs steps to their end and tells what was read; the connection ends with them.
pub(crate) async fn run(mut wire: Wire, steps: &[Step]) -> Vec<Value> {
    let (mut told, mut then) = (Vec::new(), Then::Go);
    for step in steps {
        match one(&mut wire, step, &mut told).await {
            Ok(Then::Go) => {}
            Ok(last) => {
                then = last;
                break;
            }
            Err(error) => {
                told.push(json!({"failed": End::of(&error).told()}));
                break;
            }
        }
    }
    // The socket may be gone already, which is what was to come.
    let _ = then.carry_out(&wire);
    told
}

/// Runs the steps of a reply; what they read is not told.
pub(crate) async fn within(wire: &mut Wire, steps: &[Step]) -> io::Result<Then> {
    let mut told = Vec::new();
    for step in steps {
        match one(wire, step, &mut told).await? {
            Then::Go => {}
            last => return Ok(last),
        }
    }
    Ok(Then::Go)
}

/// Sends back what comes, until the peer ends its direction.
pub(crate) async fn echo(mut wire: Wire) -> Vec<Value> {
    let mut told = Vec::new();
    loop {
        match wire.some().await {
            Ok(bytes) => {
                told.extend_from_slice(&bytes);
                if let Err(error) = wire.send(&bytes).await {
                    return vec![json!({"echoed": body(&told), "end": End::of(&error).told()})];
                }
            }
            Err(end) => return vec![json!({"echoed": body(&told), "end": end.told()})],
        }
    }
}

async fn one(wire: &mut Wire, step: &Step, told: &mut Vec<Value>) -> io::Result<Then> {
    match step {
        Step::Send(text) => wire.send(text.as_bytes()).await?,
        Step::Hex(text) => wire.send(&hex(text)).await?,
        Step::Repeat { text, times } => wire.send(text.repeat(*times).as_bytes()).await?,
        Step::Dribble { text, size } => dribble(wire, text.as_bytes(), *size).await?,
        Step::Hello(hello) => {
            let bytes = hello::craft(hello);
            dribble(wire, &bytes, hello.segments.unwrap_or(bytes.len())).await?;
        }
        Step::Preface(settings) => frames::begin(wire, true, settings).await?,
        Step::Serve(settings) => {
            // What came in its place shows in what is read next.
            let _ = wire.exactly(24).await;
            frames::begin(wire, false, settings).await?;
        }
        Step::Frames(list) => {
            for frame in list {
                frames::send(wire, frame).await?;
            }
        }
        Step::Streams(wanted) => told.push(json!({"frames": frames::read(wire, wanted).await})),
        Step::Read(count) => told.push(match wire.exactly(*count).await {
            Ok(bytes) => json!({"read": body(&bytes)}),
            Err(end) => json!({"read": {"end": end.told()}}),
        }),
        Step::Response(method) => told.push(json!({"response": wire.response(method).await})),
        Step::Wait(milliseconds) => sleep(Duration::from_millis(*milliseconds)).await,
        Step::HalfClose => wire.half_close().await?,
        Step::Eof => {
            let (bytes, end) = wire.rest().await;
            told.push(json!({"rest": body(&bytes), "end": end.told()}));
        }
        Step::EndWithin(milliseconds) => {
            let end = wire.end(Duration::from_millis(*milliseconds)).await;
            told.push(json!({"end": end.told()}));
        }
        Step::Close => return Ok(Then::Close),
        Step::Reset => return Ok(Then::Reset),
    }
    Ok(Then::Go)
}

async fn dribble(wire: &mut Wire, bytes: &[u8], size: usize) -> io::Result<()> {
    for piece in bytes.chunks(size) {
        wire.send(piece).await?;
        sleep(SEGMENT).await;
    }
    Ok(())
}

/// Bytes from their hexadecimal digits.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        u8::from_str_radix(&pair, 16).unwrap_or_else(|_| panic!("{pair:?} are no two hexadecimal digits"))
    };
    digits.chunks(2).map(byte).collect()
}
