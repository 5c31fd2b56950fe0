//! What only librdkafka's C API tells. The one file with unsafe code; each call is wrapped into a safe function here.

#![expect(
    unsafe_code,
    reason = "topic ids, leader epochs and known high watermarks are not in the crate's safe API"
)]

use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;

/// Leader epoch of a message; `None`: the broker does not tell.
pub(super) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the pointer is valid as long as the message lives; the function only reads.
    let epoch = unsafe { c::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// A partition's high watermark as of its last fetch, without asking the broker; `None`: not fetched yet.
pub(super) fn high_watermark<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &CStr,
    partition: i32,
) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: client and topic outlive the call, which writes the two numbers and keeps nothing.
    let code = unsafe {
        c::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// The topic's id as Kafka prints it; `None`: the broker is too old to have ids.
pub(super) fn topic_id<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &CStr,
    wait: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    let mut names = [topic.as_ptr()];
    // SAFETY: all that is made here is destroyed here, in the reverse order; the client outlives the call. The event owns
    // the result and all that is read from it, and the id is copied before the event is destroyed.
    unsafe {
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let queue = c::rd_kafka_queue_new(client);
        let options = c::rd_kafka_AdminOptions_new(
            client,
            c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        c::rd_kafka_DescribeTopics(client, topics, options, queue);
        // The request ends by itself at its own deadline, with an error that says so.
        let event = c::rd_kafka_queue_poll(queue, millis.saturating_add(200));
        let id = if event.is_null() {
            Err(RDKafkaErrorCode::OperationTimedOut)
        } else {
            let id = described_id(event);
            c::rd_kafka_event_destroy(event);
            id
        };
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_queue_destroy(queue);
        c::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// # Safety
/// `event` is a live event.
unsafe fn described_id(
    event: *mut c::rd_kafka_event_t,
) -> Result<Option<String>, RDKafkaErrorCode> {
    // SAFETY: the result and the descriptions belong to the live event; counts and null pointers are checked.
    unsafe {
        accepted(c::rd_kafka_event_error(event))?;
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 || topics.is_null() || (*topics).is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let error = c::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null() {
            accepted(c::rd_kafka_error_code(error))?;
        }
        let id = c::rd_kafka_TopicDescription_topic_id(*topics);
        if id.is_null() {
            return Ok(None);
        }
        let zero = c::rd_kafka_Uuid_most_significant_bits(id) == 0
            && c::rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = c::rd_kafka_Uuid_base64str(id);
        if zero || text.is_null() {
            return Ok(None);
        }
        Ok(Some(CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

fn accepted(code: c::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match code {
        c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}
