//! Hostile bytes for the parts that read them: what fuzz targets call.

use std::io;
use std::time::{Duration, Instant};

use crate::dns::Question;
use crate::policy::Policy;
use crate::stack::{Event, Failure, HostEnd, Pair, Stack, Step};

/// Longest time between two frames of a trial.
const PAUSE_MAX: Duration = Duration::from_millis(255);

/// Connections that are looked after at once.
const STANDING_MAX: usize = 8;

/// Gives a stack frames, each behind its length in two bytes and a pause in milliseconds, and answers all that it asks for.
pub fn frames(mut bytes: &[u8]) {
    let mut now = Instant::now();
    let mut stack = Stack::new(Policy::default(), Box::new(|_| false), now);
    let mut standing: Vec<Pair> = Vec::new();
    while let Some(([high, low, pause], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        bytes = rest;
        now += Duration::from_millis((*pause).into()).min(PAUSE_MAX);
        stack.input(frame, now);
        standing.retain(|pair| !matches!(stack.step(*pair, &Far(*pause), now), Step::Over));
        while let Some(event) = stack.next_event() {
            match event {
                Event::Connect { pair, .. } if pause % 2 == 0 => {
                    if stack.connected(pair, now).is_some() && standing.len() < STANDING_MAX {
                        standing.push(pair);
                    }
                }
                Event::Connect { pair, .. } => {
                    stack.not_connected(pair, Failure { refused: pause % 3 == 0, reason: String::new() }, now);
                }
                Event::Converse { pair, payload, .. } | Event::Datagram { pair, payload } => {
                    stack.datagram(pair, &payload);
                    stack.not_delivered(pair, pause % 2 == 0);
                }
                Event::Question { payload, .. } => question(&payload),
                Event::Questions(_) | Event::EndConversation(_) | Event::Tell(_) => {}
            }
        }
        let sent = stack.output().drain(..).map(|frame| frame.len()).sum();
        stack.output_taken(sent);
    }
}

/// The host's side of a connection, which does what a number says.
struct Far(u8);

impl HostEnd for Far {
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self.0 % 5 {
            0 => Ok(0),
            1 => Ok(room.len().min(100)),
            2 => Ok(room.len()),
            3 => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.0 % 3 {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            1 => Ok(bytes.len().min(100)),
            _ => Ok(bytes.len()),
        }
    }

    fn finish(&self) {}

    fn break_off(&self) {}
}

/// Reads a message as a question, and answers it.
pub fn question(message: &[u8]) {
    if let Ok(question) = Question::parse(message) {
        let answer = question.addresses(&[[1, 2, 3, 4].into(), [1; 16].into()]);
        assert!(question.is_answered_by(&answer) && Question::parse(&question.message()).is_ok());
    }
}
