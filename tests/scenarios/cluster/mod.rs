//! The chart and the images on a real node: pods run as containers, a real broker and a real S3 server are reached as users
//! reach theirs, and what tables hold is judged by foreign readers against the producer's ledger.

mod bed;
mod changes;
mod images;
mod line;
mod orders;
mod producer;
mod readings;
mod troubles;
mod world;
