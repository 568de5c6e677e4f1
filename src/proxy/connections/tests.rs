use std::net::Ipv4Addr;
use std::task::Waker;

use tokio::time::{advance, pause};

use super::*;
use crate::runtime::descriptors::Division;

fn connections(clients: usize) -> Arc<Connections> {
    let state = State::new(Division { clients, apps: 1 });
    Arc::new(Connections::new(Arc::new(state)))
}

fn address(last: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(192, 0, 2, last).into())
}

fn is_told(admitted: &Admitted) -> bool {
    admitted.poll_told(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn busy(admitted: Admitted) -> Admitted {
    admitted.serves(Arc::new(InLine));
    admitted
}

#[tokio::test]
async fn the_one_that_has_waited_longest_makes_room() {
    pause();
    let connections = connections(3);
    let mut open = Vec::new();
    for last in 1..=3 {
        open.push(connections.admit(address(last)).expect("a place"));
        advance(Duration::from_secs(1)).await;
    }
    let fourth = connections.admit(address(4)).expect("a place made");
    assert_eq!(open.iter().map(is_told).collect::<Vec<_>>(), [true, false, false]);
    // It goes in its own time, and gives back nothing: its place was taken.
    drop(open.remove(0));
    let fifth = connections.admit(address(5)).expect("a place made");
    assert_eq!(open.iter().map(is_told).collect::<Vec<_>>(), [true, false]);
    drop((fourth, fifth, open));
    let counts = (&connections.state.displaced, &connections.state.refused);
    assert_eq!((counts.0.load(Relaxed), counts.1.load(Relaxed)), (2, 0));
    assert_eq!(connections.places.free(), 3);
}

#[tokio::test]
async fn requests_and_sockets_stay_and_a_newcomer_is_refused() {
    let connections = connections(2);
    let request = busy(connections.admit(address(1)).expect("a place"));
    let socket = connections.admit(address(2)).expect("a place").into_share();
    assert!(connections.admit(address(3)).is_none() && !is_told(&request));
    assert_eq!(connections.state.refused.load(Relaxed), 1);
    drop(socket);
    assert!(connections.admit(address(3)).is_some());
}

#[tokio::test]
async fn an_address_makes_room_for_itself_and_leaves_some_for_others() {
    let connections = connections(90);
    let mut crowd: Vec<_> = (0..80)
        .map(|_| busy(connections.admit(address(1)).expect("a place")))
        .collect();
    assert!(connections.admit(address(1)).is_none(), "it has its share");
    let mut others: Vec<_> = (2..=11)
        .map(|last| connections.admit(address(last)).expect("a place"))
        .collect();
    others.push(connections.admit(address(12)).expect("one of those that wait goes"));
    let told = || others.iter().filter(|one| is_told(one)).count();
    assert_eq!(told(), 1);
    assert!(
        connections.admit(address(1)).is_none(),
        "the others have less than it has"
    );
    let waiting = crowd.pop().expect("many");
    *waiting.presence.serves.lock() = None;
    assert!(connections.admit(address(1)).is_some() && is_told(&waiting));
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn who_has_much_gets_no_place_of_who_has_less() {
    let connections = connections(18);
    let crowd: Vec<_> = (0..16)
        .map(|_| busy(connections.admit(address(1)).expect("a place")))
        .collect();
    let quiet = [2, 3].map(|last| connections.admit(address(last)).expect("a place"));
    assert!(connections.admit(address(1)).is_none());
    assert!(!quiet.iter().any(is_told));
    drop(crowd);
}

#[tokio::test]
async fn a_proxy_is_bounded_by_the_whole_until_it_says_for_whom_it_speaks() {
    let connections = connections(10);
    let through: Vec<_> = (0..10).map(|_| connections.admit(None).expect("a place")).collect();
    assert!(
        through
            .iter()
            .take(9)
            .all(|one| one.identify(Ipv4Addr::LOCALHOST.into()))
    );
    drop(through);
    assert_eq!(connections.places.free(), 10);
}
