//! Times of the data path's cores: `cargo bench -p gateway`. For what a change costs, count instructions: `bench instructions`.

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::cores;

fn all(criterion: &mut Criterion) {
    for name in cores::names() {
        criterion.bench_function(name, |bencher| {
            let mut core = cores::core(name).expect("a core of that name");
            bencher.iter(&mut core);
        });
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
