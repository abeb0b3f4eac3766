//! Contents as a real server gives them: as zstd. They are a frame of blocks
//! that are not compressed (RFC 8878), so nothing here has to compress.

use std::fs::File;
use std::io::{self, Read as _};

use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Frame};

use super::refusal::Body;

/// The magic number; then: no checksum, no size, a window of 128 KiB.
const HEAD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
/// The last block, and empty.
const END: [u8; 3] = [0x01, 0x00, 0x00];
/// The largest block there may be.
const BLOCK: usize = 128 << 10;

/// How long contents of that length are.
pub(super) fn size(length: u64) -> u64 {
    let blocks = length.div_ceil(BLOCK as u64);
    HEAD.len() as u64 + 3 * blocks + length + END.len() as u64
}

/// A file, block by block.
pub(super) fn of_file(file: File) -> Body {
    let pieces = futures_util::stream::unfold(Some((file, true)), |state| async {
        let (mut file, first) = state?;
        let mut piece = if first { HEAD.to_vec() } else { Vec::new() };
        match block(&mut file, &mut piece) {
            Ok(0) => {
                piece.extend(END);
                Some((Ok(Frame::data(Bytes::from(piece))), None))
            }
            Ok(_) => Some((Ok(Frame::data(Bytes::from(piece))), Some((file, false)))),
            Err(failed) => Some((Err(failed), None)),
        }
    });
    BoxBody::new(StreamBody::new(pieces))
}

/// Appends the next block with its head, if there is one; its length.
fn block(file: &mut File, piece: &mut Vec<u8>) -> io::Result<usize> {
    let mut block = Vec::new();
    let length = file.take(BLOCK as u64).read_to_end(&mut block)?;
    if length > 0 {
        let head = u32::try_from(length).expect("a block is small") << 3;
        piece.extend(&head.to_le_bytes()[..3]);
        piece.extend(block);
    }
    Ok(length)
}
