//! Questions for names: judged, resolved by the host, answered; and what was answered is remembered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Shared, carry};
use crate::address::{GATEWAY_V4, GATEWAY_V6};
use crate::dns::{Asked, Failure, NotAQuestion, Question};
use crate::limits::{DNS_LIMIT, DNS_QUESTION_BYTES_MAX};
use crate::policy::NameVerdict;
use crate::resolve::forward;
use crate::stack::Pair;

/// Answers a question that came in a datagram.
pub(super) fn answer(shared: &Arc<Shared>, pair: Pair, payload: Vec<u8>) {
    // Whoever asks more at once asks again.
    let Ok(slot) = Arc::clone(&shared.questions).try_acquire_owned() else { return };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let Some(read) = shared.contain(|| Question::parse(&payload)) else { return };
        let answer = match read {
            Ok(question) => {
                let answer = resolved(&shared, &question, false).await;
                question.fit_for_udp(answer)
            }
            Err(NotAQuestion::Answered(answer)) => answer,
            Err(NotAQuestion::Noise) => return,
        };
        shared.with(|stack| stack.answered(pair, &answer));
        drop(slot);
    });
}

/// Answers the questions that come over a connection, one after another.
pub(super) fn serve_stream(shared: &Arc<Shared>, pair: Pair) {
    let Some(wake) = shared.stack().wake_of(pair) else { return };
    let Ok((near, far)) = UnixStream::pair() else {
        // The host has no more descriptors: nobody would ever look after the connection.
        shared.with(|stack| stack.give_up(pair, Instant::now()));
        return;
    };
    let carrying = Arc::clone(shared);
    tokio::spawn(async move { carry(&carrying, pair, &near, &wake).await });
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // A guest that breaks off needs no answer.
        drop(tokio::time::timeout(DNS_LIMIT * 3, serve(&shared, far)).await);
    });
}

async fn serve(shared: &Arc<Shared>, mut stream: UnixStream) -> std::io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        if length > DNS_QUESTION_BYTES_MAX {
            return Ok(());
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        let Ok(slot) = shared.questions.acquire().await else { return Ok(()) };
        let Some(read) = shared.contain(|| Question::parse(&message)) else { return Ok(()) };
        let answer = match read {
            Ok(question) => resolved(shared, &question, true).await,
            Err(NotAQuestion::Answered(answer)) => answer,
            Err(NotAQuestion::Noise) => return Ok(()),
        };
        drop(slot);
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

async fn resolved(shared: &Arc<Shared>, question: &Question, stream: bool) -> Vec<u8> {
    let Some(verdict) = shared.with(|stack| stack.judge_name(&question.name, Instant::now())) else {
        return question.failed(Failure::ServerFailed);
    };
    match (verdict, question.asked()) {
        // It is not there for this guest: a program that hears so does not ask again and again.
        (NameVerdict::Refused(_), _) => question.failed(Failure::NoName),
        (NameVerdict::Gateway, _) => question.addresses(&[IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)]),
        (NameVerdict::Resolve { .. }, Asked::Any) => question.failed(Failure::NotImplemented),
        // None of them: what they name is outside the domains, or would have to be learned, too.
        (NameVerdict::Resolve { addresses_only: true }, Asked::Elsewhere) => question.addresses(&[]),
        (NameVerdict::Resolve { .. }, Asked::Addresses { .. }) => match shared.resolver.addresses(&question.name).await
        {
            Ok(addresses) => {
                shared.with(|stack| stack.learn(&question.name, &addresses, Instant::now()));
                question.addresses(&addresses)
            }
            Err(failure) => question.failed(failure),
        },
        (NameVerdict::Resolve { .. }, Asked::Elsewhere | Asked::Other) => match forward(question, stream).await {
            Ok(answer) => answer,
            Err(failure) => question.failed(failure),
        },
    }
}
