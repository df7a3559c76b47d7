//! A client that is attached to a shell: sees what the shell's terminal shows, and types on it.
//!
//! Any number may be. Each is sent the screen as it is, and what is printed after that. One that falls behind is not waited for,
//! it is sent the screen anew: so an interrupt key is never behind what nobody can read any more.

use std::io;
use std::sync::Arc;

use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::{Exit, Stream, TerminalSize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use super::shell::{Progress, Shell, View};
use crate::store::shell_record::ShellEnd;
use crate::supervisor::events::Use;
use crate::supervisor::input::Input;
use crate::supervisor::protocol::{ClientMessage, Refusal, RefusalKind, ServerMessage, Steer};
use crate::supervisor::socket::{FrameReader, FrameWriter, Received};

/// What the reading half of the connection has to say to the other.
enum Heard {
    Credit(u32),
    ClientLeft,
}

/// Serves a client until it leaves or the shell ends. As long as it is there, the workspace is in use.
pub(super) async fn attach(
    shell: Arc<Shell>,
    size: TerminalSize,
    reader: FrameReader,
    mut writer: FrameWriter,
    granted: Use,
) -> io::Result<()> {
    let view = shell.join(size).await;
    let (sender, heard) = mpsc::unbounded_channel();
    let listening = tokio::spawn(listen(reader, Arc::clone(&shell), sender));
    let shown = show(&shell, view, &mut writer, heard).await;
    listening.abort();
    shell.leave().await;
    drop(granted);
    shown
}

async fn show(
    shell: &Shell,
    mut view: View,
    writer: &mut FrameWriter,
    mut heard: mpsc::UnboundedReceiver<Heard>,
) -> io::Result<()> {
    let mut progress = shell.progress();
    writer.send(&ServerMessage::Started { sequence: None }).await?;
    send(writer, view.escapes.as_bytes()).await?;
    loop {
        tokio::select! {
            biased;
            Some(heard) = heard.recv() => match heard {
                Heard::Credit(bytes) => writer.send(&ServerMessage::Credit { bytes }).await?,
                Heard::ClientLeft => return Ok(()),
            },
            piece = view.live.recv() => match piece {
                Ok(piece) => send(writer, &piece).await?,
                Err(RecvError::Lagged(_)) => {
                    view = shell.view();
                    send(writer, view.escapes.as_bytes()).await?;
                }
                // It comes from the shell itself, which is there.
                Err(RecvError::Closed) => return Ok(()),
            },
            // After all that was printed: it comes later in this list.
            () = ended(&mut progress) => break,
        }
    }
    let end = match shell.end() {
        Some(ShellEnd::Exited(code)) => exited(Exit::Code(code)),
        Some(ShellEnd::Signaled(signal)) => exited(Exit::Signal(signal)),
        Some(ShellEnd::Gone { reason }) => {
            let words = format!("shell {} is over: {reason}", shell.id);
            ServerMessage::Refused { refusal: Refusal::new(RefusalKind::MachineLost, words) }
        }
        None => exited(Exit::Killed),
    };
    writer.send(&end).await
}

async fn ended(progress: &mut watch::Receiver<Progress>) {
    drop(progress.wait_for(|progress| progress.ended).await);
}

fn exited(exit: Exit) -> ServerMessage {
    ServerMessage::Exited { exit, duration_ms: 0 }
}

async fn send(writer: &mut FrameWriter, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(DATA_BYTES_MAX) {
        writer.data(Stream::Stdout, piece.to_vec()).await?;
    }
    Ok(())
}

/// Reads what the client sends until it leaves. What it types is passed on by another task, so that it never holds up what
/// steers the shell.
async fn listen(mut reader: FrameReader, shell: Arc<Shell>, heard: mpsc::UnboundedSender<Heard>) {
    let input = Arc::new(Input::default());
    let passing = tokio::spawn(pass_on(Arc::clone(&input), Arc::clone(&shell), heard.clone()));
    loop {
        match reader.next::<ClientMessage>().await {
            Ok(Received::Message(ClientMessage::Steer { steer })) => match steer {
                Steer::Resize(size) => shell.resize(size).await,
                // A session that ended is told by the shell itself.
                Steer::Signal(signal) => drop(shell.handle.signal(signal).await),
                Steer::Kill => drop(shell.handle.kill().await),
            },
            Ok(Received::Data(Stream::Stdin, bytes)) => {
                if !input.push(bytes) {
                    break;
                }
            }
            Ok(Received::Message(ClientMessage::Ask { .. }) | Received::Data(..) | Received::End) | Err(_) => break,
        }
    }
    passing.abort();
    drop(heard.send(Heard::ClientLeft));
}

async fn pass_on(input: Arc<Input>, shell: Arc<Shell>, heard: mpsc::UnboundedSender<Heard>) {
    loop {
        let bytes = input.pop().await;
        let count = bytes.len();
        // The end of one client's input is not the end of the shell's.
        if count > 0 && shell.input.send(bytes).await.is_err() {
            return;
        }
        if let Some(due) = input.consume(count) {
            drop(heard.send(Heard::Credit(due)));
        }
    }
}
