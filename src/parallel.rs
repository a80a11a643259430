//! Work in parts on all cores, with the results in order. Which parts there are never depends on the number of cores, so neither does a result.

use crate::error::{Error, Result};
use std::sync::mpsc::sync_channel;

/// Threads to use: `BITNET_THREADS`, or what the system offers.
pub fn threads() -> usize {
    let wanted = std::env::var("BITNET_THREADS").ok().and_then(|v| v.parse().ok()).filter(|n| *n > 0);
    let offered = || std::thread::available_parallelism().map_or(1, |n| n.get());
    wanted.unwrap_or_else(offered).min(64)
}

/// Makes parts `0 .. count` and hands them to `take` in this order; a few parts for each thread wait at most.
///
/// # Errors
/// The first error in the order of the parts, whoever was faster.
pub fn in_order<T: Send>(
    count: usize,
    make: impl Fn(usize) -> Result<T> + Sync,
    take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    in_order_on(threads(), count, make, take)
}

/// As [`in_order`], on so many threads.
///
/// # Errors
/// The first error in the order of the parts, whoever was faster.
pub fn in_order_on<T: Send>(
    threads: usize,
    count: usize,
    make: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let threads = if count < 2 { 1 } else { threads.clamp(1, count) };
    if threads == 1 {
        return (0..count).try_for_each(|i| take(make(i)?));
    }
    std::thread::scope(|scope| {
        let make = &make;
        let queues: Vec<_> = (0..threads)
            .map(|first| {
                let (send, receive) = sync_channel(2);
                scope.spawn(move || {
                    for i in (first..count).step_by(threads) {
                        let part = make(i);
                        let last = part.is_err();
                        // Nobody listens any more after an error.
                        if send.send(part).is_err() || last {
                            break;
                        }
                    }
                });
                receive
            })
            .collect();
        for i in 0..count {
            let part = queues[i % threads].recv();
            take(part.map_err(|_| Error::tool("a thread stopped without a result"))??)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_arrive_in_order() {
        for count in [0, 1, 2, 3, 100] {
            let mut seen = Vec::new();
            in_order(count, Ok, |i| {
                seen.push(i);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_in_order_wins_and_ends_the_work() {
        let make = |i: usize| if i % 10 == 7 { Err(Error::usage(format!("part {i}"))) } else { Ok(i) };
        let mut last = 0;
        let e = in_order(1000, make, |i| {
            last = i;
            Ok(())
        });
        assert_eq!((e.unwrap_err().message(), last), ("part 7", 6));
        let e = in_order(1000, Ok, |i| if i == 5 { Err(Error::usage("full")) } else { Ok(()) });
        assert_eq!(e.unwrap_err().message(), "full");
    }
}
