//! Questions for names and the answers to them, as bytes. No I/O: who answers is `resolve`.
//!
//! One question a message is read, as everybody sends them. Anything else is answered with the error that the standard has
//! for it, or, where not even that can be said, with nothing.

use std::net::IpAddr;

use crate::limits::{DNS_ANSWER_BYTES_MAX, DNS_QUESTION_BYTES_MAX, DNS_TTL_SECONDS};
use crate::policy::canonical_name;

const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;

/// An IPv4 address.
pub(crate) const TYPE_A: u16 = 1;
/// An IPv6 address.
pub(crate) const TYPE_AAAA: u16 = 28;
/// Where a service of a name is.
const TYPE_SRV: u16 = 33;
const TYPE_OPT: u16 = 41;
/// How a service of a name is reached, and where else.
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
const TYPE_ANY: u16 = 255;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    id: u16,
    recursion_desired: bool,
    /// Whether the asker knows larger messages (EDNS), and up to which size.
    udp_bytes_max: Option<u16>,
    /// The bytes of the question itself: name, type and class.
    raw: Vec<u8>,
    /// The name in lower case, without a dot at its end.
    pub(crate) name: String,
    /// The type of record that is asked for.
    pub(crate) kind: u16,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Addresses of this kind.
    Addresses {
        /// IPv6 ones.
        v6: bool,
    },
    /// Everything there is, which nobody answers any more.
    Any,
    /// Which other names stand for this one's services. A program that hears of none takes the name itself.
    Elsewhere,
    /// Something else.
    Other,
}

/// How a question is answered other than with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is malformed.
    Malformed = 1,
    /// The host's resolver failed.
    ServerFailed = 2,
    /// There is no such name, or none for this guest.
    NoName = 3,
    /// It is of a kind that is not answered.
    NotImplemented = 4,
}

/// Why a message is not a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotAQuestion {
    /// It is answered like this.
    Answered(Vec<u8>),
    /// It is not answered.
    Noise,
}

impl Question {
    /// Reads a question.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, NotAQuestion> {
        let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let (Some(id), Some(flags)) = (word(0), word(2)) else { return Err(NotAQuestion::Noise) };
        let is_response = flags & 0x8000 != 0;
        if is_response || message.len() < HEADER_BYTES {
            return Err(NotAQuestion::Noise);
        }
        let fail =
            |failure: Failure| NotAQuestion::Answered(header(id, flags & 0x0100 != 0, failure as u16, [0, 0, 0]));
        if message.len() > DNS_QUESTION_BYTES_MAX {
            return Err(fail(Failure::Malformed));
        }
        let operation = flags >> 11 & 0xf;
        if operation != 0 {
            return Err(fail(Failure::NotImplemented));
        }
        if word(4) != Some(1) || word(6) != Some(0) || word(8) != Some(0) {
            return Err(fail(Failure::Malformed));
        }
        let (name, end) = read_name(message, HEADER_BYTES).ok_or_else(|| fail(Failure::Malformed))?;
        let (Some(kind), Some(class)) = (word(end), word(end + 2)) else { return Err(fail(Failure::Malformed)) };
        let raw = message[HEADER_BYTES..end + 4].to_vec();
        let udp_bytes_max = edns_size(message, end + 4, word(10));
        let question = Self { id, recursion_desired: flags & 0x0100 != 0, udp_bytes_max, raw, name, kind };
        if class != CLASS_IN {
            return Err(NotAQuestion::Answered(question.failed(Failure::NotImplemented)));
        }
        Ok(question)
    }

    /// What is asked for.
    #[must_use]
    pub(crate) fn asked(&self) -> Asked {
        match self.kind {
            TYPE_A => Asked::Addresses { v6: false },
            TYPE_AAAA => Asked::Addresses { v6: true },
            TYPE_ANY => Asked::Any,
            TYPE_SRV | TYPE_SVCB | TYPE_HTTPS => Asked::Elsewhere,
            _ => Asked::Other,
        }
    }

    /// The answer that names these addresses; those of the other kind are left out.
    #[must_use]
    pub(crate) fn addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let fitting = addresses.iter().filter(|address| address.is_ipv6() == (self.kind == TYPE_AAAA));
        let records: Vec<u8> = fitting.clone().flat_map(|address| self.record(*address)).collect();
        let count = u16::try_from(fitting.count()).unwrap_or(0);
        let mut answer = self.begin(0, count);
        answer.extend(records);
        self.end(answer)
    }

    /// The answer that there is none.
    #[must_use]
    pub(crate) fn failed(&self, failure: Failure) -> Vec<u8> {
        self.end(self.begin(failure as u16, 0))
    }

    /// The question as it is passed on to another server.
    #[must_use]
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut message = header(self.id, self.recursion_desired, 0, [1, 0, u16::from(self.udp_bytes_max.is_some())]);
        message[2] &= 0x7f;
        message[3] = 0;
        message.extend(&self.raw);
        self.end(message)
    }

    /// Whether `message` is an answer to this question.
    #[must_use]
    pub(crate) fn is_answered_by(&self, message: &[u8]) -> bool {
        let is_response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
        is_response
            && message.get(..2) == Some(&self.id.to_be_bytes())
            && message.get(4..6) == Some(&[0, 1])
            && message
                .get(HEADER_BYTES..HEADER_BYTES + self.raw.len())
                .is_some_and(|raw| raw.eq_ignore_ascii_case(&self.raw))
    }

    /// The answer as far as the asker can take it over UDP: one that is too long is cut down to its head, which says so.
    #[must_use]
    pub(crate) fn fit_for_udp(&self, answer: Vec<u8>) -> Vec<u8> {
        let room = usize::from(self.udp_bytes_max.unwrap_or(512)).clamp(512, DNS_ANSWER_BYTES_MAX);
        if answer.len() <= room {
            return answer;
        }
        let mut head = self.end(self.begin(0, 0));
        head[2] |= 0x02;
        head
    }

    fn begin(&self, code: u16, answers: u16) -> Vec<u8> {
        let extra = u16::from(self.udp_bytes_max.is_some());
        let mut answer = header(self.id, self.recursion_desired, code, [1, answers, extra]);
        answer.extend(&self.raw);
        answer
    }

    /// Adds the record by which both sides say that they know larger messages.
    fn end(&self, mut message: Vec<u8>) -> Vec<u8> {
        if self.udp_bytes_max.is_some() {
            let size = u16::try_from(DNS_ANSWER_BYTES_MAX).unwrap_or(u16::MAX);
            message.push(0);
            for word in [TYPE_OPT, size, 0, 0, 0] {
                message.extend(word.to_be_bytes());
            }
        }
        message
    }

    fn record(&self, address: IpAddr) -> Vec<u8> {
        // The name is the question's: a pointer to it.
        let mut record = vec![0xc0, 12];
        record.extend(self.kind.to_be_bytes());
        record.extend(CLASS_IN.to_be_bytes());
        record.extend(DNS_TTL_SECONDS.to_be_bytes());
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        record.extend(u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        record.extend(bytes);
        record
    }
}

/// The head of an answer; `counts` are those of questions, answers and additional records.
fn header(id: u16, recursion_desired: bool, code: u16, counts: [u16; 3]) -> Vec<u8> {
    // A response, recursion is available.
    let flags = 0x8080 | u16::from(recursion_desired) << 8 | code;
    let mut bytes = Vec::with_capacity(64);
    for word in [id, flags, counts[0], counts[1], 0, counts[2]] {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// The name at `at`, and where it ends. The root has the empty name.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels: Vec<&str> = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        // Pointers have the two upper bits; a question has nothing to point to.
        if length > 63 {
            return None;
        }
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(message.get(at..at + length)?).ok()?);
        at += length;
    }
    let name = labels.join(".");
    // `canonical_name` refuses what is no name: a dot within a label makes another name of it, so labels are looked at one by one.
    let has_dots = labels.iter().any(|label| label.contains('.'));
    if has_dots {
        return None;
    }
    if name.is_empty() { Some((name, at)) } else { Some((canonical_name(&name)?, at)) }
}

/// The size that the asker says it can take, in the one additional record that a question may have.
fn edns_size(message: &[u8], at: usize, count: Option<u16>) -> Option<u16> {
    let record = message.get(at..at + 5)?;
    (count == Some(1) && record[..3] == [0, 0, 41]).then(|| u16::from_be_bytes([record[3], record[4]]))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{Asked, Failure, NotAQuestion, Question, TYPE_A, TYPE_AAAA};

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_question_is_answered_with_addresses_of_its_kind() {
        let addresses: [IpAddr; 2] = ["1.2.3.4".parse().unwrap(), "2606::1".parse().unwrap()];
        let asked = Question::parse(&question("WWW.Example.org", TYPE_A)).unwrap();
        assert_eq!((asked.name.as_str(), asked.asked()), ("www.example.org", Asked::Addresses { v6: false }));
        let answer = asked.addresses(&addresses);
        assert!(asked.is_answered_by(&answer));
        assert_eq!(answer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(answer.ends_with(&[0, 4, 1, 2, 3, 4]));

        let asked = Question::parse(&question("www.example.org", TYPE_AAAA)).unwrap();
        assert!(asked.addresses(&addresses).ends_with(&[0x26, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(asked.addresses(&addresses[..1])[6..8], [0, 0], "no address of the kind is no answer, and no error");
        assert_eq!(asked.failed(Failure::NoName)[3], 0x83);
    }

    #[test]
    fn what_is_no_question_gets_the_error_for_it() {
        let noise = |message: &[u8]| assert_eq!(Question::parse(message), Err(NotAQuestion::Noise));
        noise(&[]);
        noise(&[0; 11]);
        let mut response = question("a.example", TYPE_A);
        response[2] |= 0x80;
        noise(&response);

        #[track_caller]
        fn check(message: &[u8], code: u8) {
            match Question::parse(message) {
                Err(NotAQuestion::Answered(answer)) => assert_eq!(answer[3] & 0xf, code),
                other => panic!("{other:?}"),
            }
        }
        let good = question("a.example", TYPE_A);
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            message
        };
        check(&with(2, 0x29), 4);
        check(&with(5, 2), 1);
        check(&with(7, 1), 1);
        check(&with(good.len() - 1, 3), 4);
        check(&with(12, 0xc0), 1);
        check(&with(12, 60), 1);
        check(&with(13, b'.'), 1);
        check(&with(13, 0xff), 1);
        check(&good[..good.len() - 1], 1);
        check(&vec![0; 2 << 20].iter().enumerate().map(|(at, _)| u8::from(at == 5)).collect::<Vec<_>>(), 1);
        check(&question(&["a"; 130].join("."), TYPE_A), 1);
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut_and_says_so() {
        let mut message = question("a.example", TYPE_A);
        let asked = Question::parse(&message).unwrap();
        let long = vec![0; 600];
        let cut = asked.fit_for_udp(long.clone());
        assert!(cut.len() < 100 && cut[2] & 0x02 != 0 && asked.is_answered_by(&cut));

        message[11] = 1;
        message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        let asked = Question::parse(&message).unwrap();
        assert_eq!(asked.fit_for_udp(long.clone()), long);
        let answer = asked.addresses(&[]);
        assert_eq!((answer[11], &answer[answer.len() - 11..]), (1, &[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0][..]));
        assert_eq!(Question::parse(&asked.message()), Ok(asked));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(question) = Question::parse(&bytes) {
                prop_assert_eq!(Question::parse(&question.message()).unwrap().name, question.name);
            }
        }

        /// Also where a question is damaged, its answer is one to its id, or there is none.
        #[test]
        fn a_damaged_question_is_answered_or_not(at in 2_usize..30, byte in any::<u8>()) {
            let mut message = question("files.example.org", TYPE_A);
            message[at] = byte;
            match Question::parse(&message) {
                Ok(question) => prop_assert!(question.is_answered_by(&question.addresses(&[]))),
                Err(NotAQuestion::Answered(answer)) => prop_assert_eq!(&answer[..2], &message[..2]),
                Err(NotAQuestion::Noise) => {}
            }
        }
    }
}
