//! The chart and the images on a real node: pods run as containers, a real broker, S3 server and database are reached as users
//! reach theirs, and what tables and topics hold is judged by foreign readers against the producer's ledger.

mod activity;
mod bed;
mod changes;
mod images;
mod line;
mod objects;
mod orders;
mod producer;
mod readings;
mod shop;
mod site;
mod troubles;
mod world;
