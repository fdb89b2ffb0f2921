//! The vectors of the service protocol, both directions, and what is true of any bytes.

mod file;

use super::encode::encode;
use super::{Assembler, DecodeError, Message, append, decode};
use file::{Vector, vectors};
use std::panic;
use std::time::{Duration, Instant};

#[test]
fn vectors_decode_to_their_message() {
    let mut seen = 0;
    for vector in vectors() {
        let body = vector.body();
        assert_eq!(decode(&body), Ok(vector.message()), "{}", vector.name);
        seen += 1;
    }
    assert_eq!(seen, 196 + 17);
}

#[test]
fn vectors_encode_to_their_bytes() {
    let mut exact = 0;
    for vector in vectors().iter().filter(|vector| vector.exact_encoding) {
        let mut out = b"before".to_vec();
        append(&mut out, &vector.message());
        assert_eq!(out[6..], vector.framed(), "{}", vector.name);
        exact += 1;
    }
    assert!(exact > 150, "{exact}");
}

#[test]
fn vectors_read_the_same_split_at_every_byte() {
    for vector in vectors() {
        let (framed, body) = (vector.framed(), vector.body());
        // of the one that is very large, where a part of it begins or ends
        let cuts: Vec<usize> = if framed.len() <= 4096 {
            (0..=framed.len()).collect()
        } else {
            [0, 1, 2, 3, 4, 10, framed.len() / 2, framed.len() - 1].into()
        };
        for cut in cuts {
            let (first, second) = framed.split_at(cut);
            assert_eq!(read(&[first, second]), Ok(vec![body.clone()]), "{} at {cut}", vector.name);
        }
    }
}

#[test]
fn all_vectors_make_one_stream() {
    let all: Vec<Vector> = vectors().into_iter().filter(|vector| vector.framed().len() < 4096).collect();
    let stream: Vec<u8> = all.iter().flat_map(Vector::framed).collect();
    let bodies: Vec<Vec<u8>> = all.iter().map(Vector::body).collect();
    for size in [1, 2, 7, 64, 1000, stream.len()] {
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(read(&pieces).as_ref(), Ok(&bodies), "pieces of {size}");
    }
}

#[test]
fn a_message_that_is_cut_short_is_broken() {
    for vector in vectors().iter().filter(|vector| vector.trailing_bytes == 0 && vector.body().len() < 4096) {
        let body = vector.body();
        let last = if matches!(vector.message(), Message::Unknown(_)) { 2 } else { body.len() };
        for end in 0..last {
            let read = decode(&body[..end]);
            assert!(
                matches!(read, Err(DecodeError::NoType | DecodeError::Broken(_))),
                "{} at {end}: {read:?}",
                vector.name
            );
        }
    }
}

#[test]
fn a_type_that_is_not_known_is_told_from_a_broken_message() {
    assert_eq!(decode(&[0x91, 99]), Ok(Message::Unknown(99)));
    assert_eq!(decode(&[0x93, 0xd0, 0x80, 0xc1, 0xc1]), Ok(Message::Unknown(-128)));
    assert_eq!(decode(&[0x92, 6, 0xa0]), Err(DecodeError::Broken(6)));
    for body in [&[][..], &[0x90], &[0x91], &[0x91, 0xc0], &[0x80], &[0xc1], &[0x91, 0xce, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(decode(body), Err(DecodeError::NoType), "{body:x?}");
    }
}

#[test]
fn members_that_nobody_knows_have_their_values_skipped() {
    // 9: an array with a map in it; "x": nil; 1: a tracing id; 7: text; 5: a data type
    let ext = [0x85, 9, 0x92, 0x81, 1, 2, 0x90, 0xa1, b'x', 0xc0, 1, 0xcd, 4, 0xd2, 7, 0xa1, b'y', 5, 2];
    let body = [&[0x94, 6, 0xa1, b'c', 0xc4, 1, 7][..], &ext].concat();
    let Ok(Message::ConnectionData { connection_id: "c", payload: [7], ext }) = decode(&body) else {
        panic!("{:?}", decode(&body))
    };
    assert_eq!((ext.tracing_id, ext.data_type), (Some(1234), 2));
}

#[test]
fn a_message_of_more_elements_than_anybody_needs_is_broken() {
    let most = 100_000_u32;
    let array = |count: u32| [&[0xdd][..], &count.to_be_bytes()].concat();
    let map = |count: u32| [&[0xdf][..], &count.to_be_bytes()].concat();
    let texts = |count: u32| vec![0xa0; count as usize];
    let listed = |count| [&[0x93, 7][..], &array(count), &texts(count), &[0x80]].concat();
    let named = |count| [&[0x93, 7, 0x90][..], &map(count), &texts(2 * count)].concat();
    let pinged = |count| [&array(count + 1)[..], &[3], &texts(count)].concat();
    for (message, kind) in [(&listed as &dyn Fn(u32) -> Vec<u8>, 7), (&named, 7), (&pinged, 3)] {
        assert!(decode(&message(most)).is_ok(), "{kind}");
        assert_eq!(decode(&message(most + 1)), Err(DecodeError::Broken(kind)));
    }
    // all of them together: two headers
    let values = |count| [&[0xa1, b'h'][..], &array(count), &texts(count)].concat();
    let closing = |count| [&[0x94, 5, 0xa0, 0xa0, 0x82][..], &values(count), &values(count)].concat();
    assert!(decode(&closing(most / 2 - 1)).is_ok());
    assert_eq!(decode(&closing(most / 2)), Err(DecodeError::Broken(5)));
}

#[test]
fn integers_and_texts_are_taken_in_every_form() {
    let id: [&[u8]; 3] = [&[0xa1, b'c'], &[0xd9, 1, b'c'], &[0xda, 0, 1, b'c']];
    let number: [&[u8]; 6] =
        [&[7], &[0xcc, 7], &[0xcd, 0, 7], &[0xd0, 7], &[0xd2, 0, 0, 0, 7], &[0xd3, 0, 0, 0, 0, 0, 0, 0, 7]];
    for id in id {
        for number in number {
            let body = [&[0x94, 24][..], id, number, &[0x80]].concat();
            let Ok(Message::CheckExistence { name: "c", ack_id: 7, .. }) = decode(&body) else {
                panic!("{body:x?}: {:?}", decode(&body))
            };
        }
    }
}

#[test]
fn any_bytes_are_read_without_panic() {
    let seed = std::env::var("HUBWIRE_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::from_ne_bytes(std::array::from_fn(|_| {
            let mut byte = [0];
            getrandom::fill(&mut byte).unwrap();
            byte[0]
        }))
    });
    println!("HUBWIRE_FUZZ_SEED={seed}");
    let mut random = Random(seed | 1);
    let bodies: Vec<Vec<u8>> =
        vectors().iter().map(Vector::body).filter(|body| !body.is_empty() && body.len() < 4096).collect();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        for _ in 0..200 {
            let body = mutated(&bodies, &mut random);
            let read = panic::catch_unwind(|| {
                if let Ok(message) = decode(&body) {
                    // what was read can be written, and says the same then
                    let mut again = Vec::new();
                    encode(&mut again, &message);
                    assert_eq!(decode(&again), Ok(message));
                }
            });
            assert!(read.is_ok(), "seed {seed}: {body:02x?}");
        }
    }
}

fn read(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let (mut assembler, mut bodies) = (Assembler::new(1 << 24), Vec::new());
    for mut piece in pieces.iter().copied() {
        while let Some(body) = assembler.next(&mut piece)? {
            bodies.push(body.to_vec());
        }
    }
    Ok(bodies)
}

fn mutated(bodies: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut body = bodies[random.below(bodies.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(body.len().max(1));
        match random.below(5) {
            0 => body.truncate(at),
            1 if at < body.len() => body[at] = random.next() as u8,
            2 if at < body.len() => body[at] ^= 1 << random.below(8),
            3 => body.insert(at.min(body.len()), random.next() as u8),
            _ => {
                let other = &bodies[random.below(bodies.len())];
                let from = random.below(other.len());
                body.splice(at.min(body.len()).., other[from..].iter().copied());
            }
        }
    }
    body
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
