//! One direction's records: any portions give the same items at the same places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumetry_fuzz::Input;
use resumetry_fuzz::core::tls::record::{Item, Next, RecordReader};

fn read<'a>(portions: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
    let (mut reader, mut items) = (RecordReader::default(), Vec::new());
    for portion in portions {
        let result = reader.data(portion, &mut |item, at| {
            items.push(format!("{item:?} at {at}"));
            match item {
                Item::ChangeCipherSpec => Next::Protect,
                _ => Next::Continue,
            }
        });
        if result.is_err() {
            return (items, true);
        }
    }
    (items, false)
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let cuts = input.vector();
    let bytes = input.0;
    let whole = read(std::iter::once(bytes));
    let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
    let portions = std::iter::from_fn(|| {
        let length = cuts.next().map_or(1, |cut| usize::from(*cut) % 64 + 1);
        let (portion, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        (!portion.is_empty()).then_some(portion)
    });
    assert_eq!(read(portions), whole);
    // A hole of any length is survived.
    let mut reader = RecordReader::default();
    let mut receive = |_: Item<'_>, _: u64| Next::Continue;
    let middle = bytes.len() / 2;
    if reader.data(&bytes[..middle], &mut receive).is_ok()
        && reader.hole(bytes.len() as u64, &mut receive).is_ok()
    {
        let _ = reader.data(&bytes[middle..], &mut receive);
    }
});
