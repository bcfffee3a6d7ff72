use agent_common::event::*;
use std::os::fd::AsFd;
fn main() -> anyhow::Result<()> {
    let mut half = resumetry::probe::KernelHalf::load(resumetry::probe::LoadOptions {
        ring_bytes: 8 << 20,
        library_tap: true,
    })?;
    let cg = resumetry::probe::open_cgroup(None)?;
    half.attach_wire(cg.as_fd())?;
    half.attach_socket(cg.as_fd())?;
    half.attach_exec()?;
    let ring = half.take_events()?;

    {
        let mut ring = resumetry::source::ring::EventRing::new(ring);
        eprintln!("ready");
        loop {
            ring.wait()?;
            ring.drain(1000, |e| {
                let kind = u32::from_ne_bytes(e[..4].try_into().unwrap());
                if kind == KIND_SEGMENT {
                    let ev: SegmentEvent = unsafe { std::ptr::read_unaligned(e.as_ptr().cast()) };
                    println!(
                        "{:?} len={} data={:02x?}",
                        ev,
                        e.len(),
                        &e[112..112 + (ev.captured as usize).min(8)]
                    );
                } else {
                    println!("kind {kind}");
                }
            });
        }
    }
}
