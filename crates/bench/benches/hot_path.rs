//! The time that the parts of a token request take: `cargo bench -p portcullis-bench --bench hot_path`.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

mod parts;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis_domain::secret::DigestKey;

fn hot_path(criterion: &mut Criterion) {
    let input = parts::Input::new();
    for (name, part) in parts::PARTS {
        criterion.bench_function(name, |bencher| bencher.iter(|| part(&input)));
    }
    // Cryptography chooses its instructions by the processor, so it is timed and not counted.
    let key = DigestKey::new("k", &[1; 32]);
    let secret = b"pcs_0000000000000000000000000000000000000000000_1cLNBa";
    let digest = key.digest(secret);
    criterion.bench_function("digest", |bencher| bencher.iter(|| digest.matches(&key, secret)));
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
