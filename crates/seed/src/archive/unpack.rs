//! What an archive is packed with, and how it is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Memory that unpacking may take: what the highest ordinary levels of xz and zstd need.
const MEMORY_BYTES_MAX: u64 = 128 << 20;
const READ_BYTES: usize = 256 << 10;

/// A way of packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
    Xz,
}

/// What a file that begins so is packed with.
pub(super) fn packing(magic: &[u8]) -> Option<Packing> {
    let zstd_skippable = |magic: &[u8]| magic.len() > 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == [0x2a, 0x4d, 0x18];
    match magic {
        [0x1f, 0x8b, 8, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
        magic if zstd_skippable(magic) => Some(Packing::Zstd),
        _ => None,
    }
}

/// Reads what is packed in `file`; parts that follow each other are read as one.
pub(super) fn reader(packing: Packing, file: File) -> io::Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(READ_BYTES, file);
    Ok(match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(ZstdFrames { source: file, frame: None }),
        Packing::Xz => {
            let stream = Stream::new_stream_decoder(MEMORY_BYTES_MAX, CONCATENATED).map_err(io::Error::other)?;
            Box::new(XzDecoder::new_stream(file, stream))
        }
    })
}

/// The frames of a zstd file, one after the other.
struct ZstdFrames {
    source: BufReader<File>,
    /// The frame that is read; none between two.
    frame: Option<FrameDecoder>,
}

impl Read for ZstdFrames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.frame = self.next_frame()?;
                continue;
            };
            while frame.can_collect() == 0 && !frame.is_finished() {
                let decoded = frame.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| invalid(&error.to_string()))?;
            }
            let count = frame.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let (told, calculated) = (frame.get_checksum_from_data(), frame.get_calculated_checksum());
            if told.is_some() && told != calculated {
                return Err(invalid("a checksum is wrong"));
            }
            self.frame = None;
        }
    }
}

impl ZstdFrames {
    /// Begins the next frame; none when it was one to be skipped.
    fn next_frame(&mut self) -> io::Result<Option<FrameDecoder>> {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MEMORY_BYTES_MAX);
        match frame.init(&mut self.source) {
            Ok(()) => Ok(Some(frame)),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                Ok(None)
            }
            Err(error) => Err(invalid(&error.to_string())),
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
