//! The tunnel against the naive model: what goes in comes out in order.

use proptest::prelude::*;

use super::*;

/// One side's part: each chunk after a pause in milliseconds.
type Script = Vec<(u64, Vec<u8>)>;

fn script() -> impl Strategy<Value = Script> {
    let chunk = proptest::collection::vec(any::<u8>(), 0..300);
    proptest::collection::vec((prop_oneof![Just(0), 0u64..50], chunk), 0..12)
}

/// Writes the script and a FIN; reads to the end meanwhile, `greed` bytes at a time with a pause after each.
async fn play(side: DuplexStream, script: &Script, (greed, pause): (usize, u64)) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(side);
    let write = async {
        for (pause, chunk) in script {
            sleep(Duration::from_millis(*pause)).await;
            to.write_all(chunk).await.unwrap();
        }
        to.shutdown().await.unwrap();
    };
    let read = async {
        let (mut all, mut buffer) = (Vec::new(), vec![0; greed]);
        loop {
            let length = from.read(&mut buffer).await.unwrap();
            if length == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..length]);
            sleep(Duration::from_millis(pause)).await;
        }
    };
    tokio::join!(read, write).0
}

fn said(early: &[u8], script: &Script) -> Vec<u8> {
    let chunks = script.iter().flat_map(|(_, chunk)| chunk);
    early.iter().chain(chunks).copied().collect()
}

proptest! {
    /// What goes in on one side comes out on the other, whole and in order, in whatever pieces and with whatever pauses.
    #[test]
    fn what_goes_in_comes_out_in_order(
        (from_client, from_app) in (script(), script()),
        early in (proptest::collection::vec(any::<u8>(), 0..200), proptest::collection::vec(any::<u8>(), 0..200)),
        buffers in (1usize..400, 1usize..400),
        (client_reads, app_reads) in ((1usize..200, 0u64..3), (1usize..200, 0u64..3)),
    ) {
        paused(async {
            let World { client, app, tunnel, .. } = world((&early.0, &early.1), buffers);
            let (at_client, at_app) = tokio::join!(
                play(client, &from_client, client_reads),
                play(app, &from_app, app_reads),
            );
            assert_eq!(at_app, said(&early.0, &from_client));
            assert_eq!(at_client, said(&early.1, &from_app));
            let (closed, _) = tunnel.end().await;
            assert_eq!(closed.bytes_to_app as usize, at_app.len() - early.0.len());
            assert_eq!(closed.bytes_to_client as usize, at_client.len() - early.1.len());
        });
    }
}
