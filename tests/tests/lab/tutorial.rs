//! Every claim of `sallyport demo`, as a test.

use sallyport::{
    demo::{Stage, Walk, script},
    lab::mesh::Mesh,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_claim_of_the_tutorial_holds() {
    let mut walk = Walk::new(Mesh::start().await.unwrap()).unwrap();
    for chapter in script() {
        walk.apply(&chapter).await.unwrap();
        for claim in chapter.claims {
            let (claim, evidence, contradictions) = walk.judge(claim).await.unwrap();
            assert!(
                contradictions.is_empty(),
                "{}: {contradictions:#?}\n{evidence:#?}",
                claim.text
            );
        }
    }
    let strays = walk.finish().await.unwrap();
    assert!(strays.is_empty(), "lines that belong to no call: {strays:#?}");
}
