//! Runs the world of one seed and tells what happens in it.

use sim::relay::end_of;

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).expect("usage: world SEED");
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().init();
    println!("{:#?}", end_of(seed, Vec::new()));
}
