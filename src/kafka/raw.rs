//! The parts of librdkafka that the safe crate does not show: events with their offsets, leader epochs, the fate of a message, topic ids, and what
//! a property takes. The only unsafe code of the project; every pointer stays inside the function that got it, or is freed by `Drop`.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;

use crate::handoff::{Offset, Record};

/// The queue that a consumer's records and events come from.
pub(super) struct ConsumerQueue {
    queue: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's queues may be used from any thread; ours is used by one at a time (`&mut self`).
unsafe impl Send for ConsumerQueue {}

/// What came out of the queue.
pub(super) enum RawEvent {
    /// A record of a partition.
    Record { record: Record },
    /// The partition has been read up to this offset.
    EndOfPartition { topic: String, partition: i32, offset: i64 },
    /// Something went wrong; `place` if it concerns one partition, `offset` if one of its offsets (else negative).
    Error { code: sys::rd_kafka_resp_err_t, place: Option<(String, i32)>, offset: i64, text: String },
    /// A line of librdkafka's log.
    Log { level: i32, text: String },
    /// Nothing of interest.
    Other,
}

impl ConsumerQueue {
    /// The consumer's queue. `client` must outlive it: the owner keeps the consumer beside it.
    pub(super) fn of(client: *mut sys::rd_kafka_t) -> ConsumerQueue {
        // SAFETY: `client` is a live consumer; the queue is reference counted and given back in `drop`.
        ConsumerQueue { queue: unsafe { sys::rd_kafka_queue_get_consumer(client) } }
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the queue lives as long as `self`.
        unsafe { sys::rd_kafka_queue_length(self.queue) }
    }

    /// The next event, at once or not at all. `place` is told the topic and partition of a record before the record is copied; `false` skips it.
    pub(super) fn poll(&mut self, mut place: impl FnMut(&[u8], i32) -> bool) -> Option<RawEvent> {
        // SAFETY: the queue lives as long as `self`; a null event means that nothing waits.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, 0) };
        if event.is_null() {
            return None;
        }
        // SAFETY: `event` is live until it is destroyed below; everything taken from it is copied before.
        let taken = unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_FETCH => fetched(sys::rd_kafka_event_message_next(event), &mut place),
                sys::RD_KAFKA_EVENT_ERROR => failed(event),
                sys::RD_KAFKA_EVENT_LOG => logged(event),
                _ => RawEvent::Other,
            }
        };
        // SAFETY: destroyed once.
        unsafe { sys::rd_kafka_event_destroy(event) };
        Some(taken)
    }
}

impl Drop for ConsumerQueue {
    fn drop(&mut self) {
        // SAFETY: the reference taken in `of`.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

/// # Safety
/// `message` is null or live.
unsafe fn fetched(message: *const sys::rd_kafka_message_t, place: &mut impl FnMut(&[u8], i32) -> bool) -> RawEvent {
    if message.is_null() {
        return RawEvent::Other;
    }
    // SAFETY: live by the contract; a message always has its topic.
    unsafe {
        let topic = CStr::from_ptr(sys::rd_kafka_topic_name((*message).rkt));
        if (*message).err as i32 != 0 {
            let text = CStr::from_ptr(sys::rd_kafka_err2str((*message).err)).to_string_lossy().into_owned();
            let place = Some((topic.to_string_lossy().into_owned(), (*message).partition));
            return RawEvent::Error { code: (*message).err, place, offset: (*message).offset, text };
        }
        if !place(topic.to_bytes(), (*message).partition) {
            return RawEvent::Other;
        }
        RawEvent::Record { record: copied(message) }
    }
}

/// Copies a record; key, value and headers share one allocation.
///
/// # Safety
/// `message` is live and no error.
unsafe fn copied(message: *const sys::rd_kafka_message_t) -> Record {
    // SAFETY: live by the contract; lengths and pointers belong together.
    unsafe {
        let key = slice((*message).key, (*message).key_len);
        let value = slice((*message).payload, (*message).len);
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp_ms = sys::rd_kafka_message_timestamp(message, &mut kind);
        let mut names: Vec<(&[u8], &[u8])> = Vec::new();
        let mut headers = ptr::null_mut();
        if sys::rd_kafka_message_headers(message, &mut headers) as i32 == 0 && !headers.is_null() {
            let (mut name, mut bytes, mut len) = (ptr::null(), ptr::null(), 0);
            let mut index = 0;
            while sys::rd_kafka_header_get_all(headers, index, &mut name, &mut bytes, &mut len) as i32 == 0 {
                index += 1;
                // A null value is no text: a tag "" would say that there was an empty one.
                let Some(value) = slice(bytes, len) else { continue };
                let text = CStr::from_ptr(name).to_bytes();
                // librdkafka gives names only as C texts, which end at their first NUL. It keeps a value right behind the NUL that ends the whole
                // name (rdkafka_header.c, rd_kafka_header_add), so a value that is farther away tells that the name goes on: such a name cannot
                // be shown, and its beginning may be another header's.
                if (value.as_ptr() as usize).wrapping_sub(name as usize) != text.len() + 1 {
                    continue;
                }
                let name = text;
                if std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok() {
                    names.push((name, value));
                }
            }
        }
        let total = key.map_or(0, <[u8]>::len)
            + value.map_or(0, <[u8]>::len)
            + names.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let mut body = BytesMut::with_capacity(total);
        let mut put = |bytes: &[u8]| -> Bytes {
            body.put_slice(bytes);
            body.split().freeze()
        };
        Record {
            offset: Offset((*message).offset),
            timestamp_ms,
            leader_epoch: sys::rd_kafka_message_leader_epoch(message),
            key: key.map(&mut put),
            value: value.map(&mut put),
            headers: names.iter().map(|(name, value)| (put(name), put(value))).collect(),
        }
    }
}

/// # Safety
/// `bytes` is null, or points to `len` bytes that live for `'a`.
unsafe fn slice<'a>(bytes: *const c_void, len: usize) -> Option<&'a [u8]> {
    if bytes.is_null() {
        return None;
    }
    // SAFETY: by the contract.
    Some(unsafe { std::slice::from_raw_parts(bytes.cast(), len) })
}

/// # Safety
/// `event` is a live error event.
unsafe fn failed(event: *mut sys::rd_kafka_event_t) -> RawEvent {
    // SAFETY: live by the contract; the partition it gives is ours to destroy.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        let text = CStr::from_ptr(sys::rd_kafka_event_error_string(event)).to_string_lossy().into_owned();
        let at = sys::rd_kafka_event_topic_partition(event);
        if at.is_null() {
            return RawEvent::Error { code, place: None, offset: -1, text };
        }
        let topic = CStr::from_ptr((*at).topic).to_string_lossy().into_owned();
        let (partition, offset) = ((*at).partition, (*at).offset);
        sys::rd_kafka_topic_partition_destroy(at);
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            RawEvent::EndOfPartition { topic, partition, offset }
        } else {
            RawEvent::Error { code, place: Some((topic, partition)), offset, text }
        }
    }
}

/// # Safety
/// `event` is a live log event.
unsafe fn logged(event: *mut sys::rd_kafka_event_t) -> RawEvent {
    let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: live by the contract; the texts live as long as the event.
    unsafe {
        if sys::rd_kafka_event_log(event, &mut facility, &mut text, &mut level) != 0 {
            return RawEvent::Other;
        }
        RawEvent::Log { level, text: CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}

/// Whether a message that failed is nevertheless, or may be, in the log.
pub(super) fn is_possibly_persisted(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: a borrowed message is live.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// Gives a client other credentials for SASL: its next connections use them, those that have failed to authenticate are tried again, and those that
/// are open stay.
///
/// # Errors
/// librdkafka's word when it does not take them.
pub(super) fn set_credentials(client: *mut sys::rd_kafka_t, user: &str, password: &str) -> Result<(), String> {
    let (Ok(user), Ok(password)) = (CString::new(user), CString::new(password)) else {
        return Err("a user or a password contains a NUL character".to_owned());
    };
    // SAFETY: `client` is live; both texts are copied; an error is destroyed once, and its text copied before.
    unsafe {
        let error = sys::rd_kafka_sasl_set_credentials(client, user.as_ptr(), password.as_ptr());
        if error.is_null() {
            return Ok(());
        }
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
        sys::rd_kafka_error_destroy(error);
        Err(text)
    }
}

/// Gives a client a token for OAUTHBEARER: its next connections use it, and those that wait for one are made. `end_ms`: when it ends, in
/// milliseconds since 1970.
///
/// # Errors
/// librdkafka's word when it does not take it, without the token.
pub(super) fn set_token(client: *mut sys::rd_kafka_t, token: &str, end_ms: i64, principal: &str) -> Result<(), String> {
    let (Ok(c_token), Ok(principal)) = (CString::new(token), CString::new(principal)) else {
        return Err("a token or its principal contains a NUL character".to_owned());
    };
    let mut reason = [0 as c_char; 512];
    // SAFETY: `client` is live; the texts are copied; librdkafka ends `reason` with a NUL.
    unsafe {
        let (text, len) = (reason.as_mut_ptr(), reason.len());
        let code = sys::rd_kafka_oauthbearer_set_token(client, c_token.as_ptr(), end_ms, principal.as_ptr(), ptr::null_mut(), 0, text, len);
        if code as i32 == 0 {
            return Ok(());
        }
        Err(CStr::from_ptr(reason.as_ptr()).to_string_lossy().replace(token, "(the token)"))
    }
}

/// Tells a client why it is given no token; one that it has stays. It complains of each reason once.
pub(super) fn set_token_failure(client: *mut sys::rd_kafka_t, why: &str) {
    let Ok(why) = CString::new(why) else { return };
    // SAFETY: `client` is live; the text is copied. It fails where a client does not use tokens: it has nobody to tell then.
    unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client, why.as_ptr()) };
}

/// Puts a producer into the state that librdkafka does not come back from.
#[cfg(test)]
pub(super) fn fail_for_good(client: *mut sys::rd_kafka_t) {
    // SAFETY: `client` is live; the reason is copied.
    unsafe {
        sys::rd_kafka_test_fatal_error(
            client,
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            c"a test".as_ptr(),
        );
    }
}

/// What librdkafka says of a property.
pub(super) enum PropertyVerdict {
    Good,
    Unknown(String),
    Invalid(String),
}

/// Asks librdkafka whether it takes a property with a value.
pub(super) fn check_property(name: &str, value: &str) -> PropertyVerdict {
    let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
        return PropertyVerdict::Invalid("it contains a NUL character".to_owned());
    };
    let mut reason = [0 as c_char; 512];
    // SAFETY: the configuration is made and destroyed here; librdkafka ends `reason` with a NUL.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        let verdict = sys::rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), reason.as_mut_ptr(), reason.len());
        sys::rd_kafka_conf_destroy(conf);
        let text = CStr::from_ptr(reason.as_ptr()).to_string_lossy().into_owned();
        match verdict {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => PropertyVerdict::Good,
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => PropertyVerdict::Unknown(text),
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_INVALID => PropertyVerdict::Invalid(text),
        }
    }
}

/// What Kafka says of a topic beside its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// As Kafka's own tools show it (URL-safe base64); `None` on clusters without topic ids.
    pub(super) id: Option<String>,
    /// The credentials have the right Read. True where Kafka does not say.
    pub(super) is_readable: bool,
    pub(super) partitions: u32,
}

/// What Kafka says of topics, by name: what they are, or why it does not tell.
pub(super) type Descriptions = HashMap<String, Result<Described, sys::rd_kafka_resp_err_t>>;

/// A broker that answers now, if it has a number. Whatever only an admin request can ask is asked there: librdkafka sends such requests to the
/// controller, and as long as one waits for a broker that is away, it tries to connect to it again and again without any pause.
///
/// # Errors
/// librdkafka's word when no broker answers in time.
pub(super) fn answering_broker(client: *mut sys::rd_kafka_t, timeout: Duration) -> Result<Option<i32>, String> {
    let mut metadata = ptr::null();
    // SAFETY: `client` is live; the metadata is destroyed here. Without "all topics" only those are asked for that the client works with.
    unsafe {
        let code = sys::rd_kafka_metadata(client, 0, ptr::null_mut(), &mut metadata, timeout.as_millis() as i32);
        if code as i32 != 0 {
            return Err(CStr::from_ptr(sys::rd_kafka_err2str(code)).to_string_lossy().into_owned());
        }
        let broker = (*metadata).orig_broker_id;
        sys::rd_kafka_metadata_destroy(metadata);
        Ok((broker >= 0).then_some(broker))
    }
}

/// A request of an admin client, which any client can make: its options, and the queue for the answer.
struct Request {
    options: *mut sys::rd_kafka_AdminOptions_t,
    queue: *mut sys::rd_kafka_queue_t,
    timeout_ms: i32,
}

impl Request {
    /// # Safety
    /// `client` is live, and outlives the request.
    unsafe fn new(client: *mut sys::rd_kafka_t, operation: sys::rd_kafka_admin_op_t, broker: Option<i32>, timeout: Duration) -> Request {
        let timeout_ms = timeout.as_millis() as i32;
        let mut reason = [0 as c_char; 256];
        // SAFETY: by the contract; both are destroyed in `drop`.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(client, operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, reason.as_mut_ptr(), reason.len());
            if let Some(broker) = broker {
                sys::rd_kafka_AdminOptions_set_broker(options, broker, reason.as_mut_ptr(), reason.len());
            }
            Request { options, queue: sys::rd_kafka_queue_new(client), timeout_ms }
        }
    }

    /// The answer, to be destroyed by the caller; null if there is none in time.
    fn answer(&self) -> *mut sys::rd_kafka_event_t {
        // SAFETY: the queue lives as long as `self`. librdkafka itself answers when the time is over.
        unsafe { sys::rd_kafka_queue_poll(self.queue, self.timeout_ms + 500) }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        unsafe {
            sys::rd_kafka_AdminOptions_destroy(self.options);
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Settings of a topic that the bridge goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicConfig {
    /// `cleanup.policy` has `compact`, or was not told: then what is promised is less.
    pub(super) compacted: bool,
    /// `max.message.bytes`.
    pub(super) message_bytes_max: Option<u32>,
    /// `cleanup.policy` has `delete`.
    pub(super) deleted: bool,
    /// `retention.ms`; -1 is for ever.
    pub(super) retention_ms: Option<i64>,
    /// `retention.bytes` of a partition; -1 is no bound.
    pub(super) retention_bytes: Option<i64>,
}

/// The settings of topics, by name. One that may not be asked is left out.
///
/// # Errors
/// librdkafka's word when the broker does not answer in time.
pub(super) fn topic_configs(
    client: *mut sys::rd_kafka_t,
    names: &[&str],
    broker: Option<i32>,
    timeout: Duration,
) -> Result<HashMap<String, TopicConfig>, String> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    // SAFETY: `client` is live; whatever is made here is destroyed here, and texts live as long as the event.
    unsafe {
        let request = Request::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, broker, timeout);
        let mut resources: Vec<_> = names
            .iter()
            .map(|name| sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr()))
            .collect();
        sys::rd_kafka_DescribeConfigs(client, resources.as_mut_ptr(), resources.len(), request.options, request.queue);
        sys::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        let event = request.answer();
        let answer = configs(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        answer
    }
}

/// # Safety
/// `event` is null, or the live result of a DescribeConfigs.
unsafe fn configs(event: *mut sys::rd_kafka_event_t) -> Result<HashMap<String, TopicConfig>, String> {
    if event.is_null() {
        return Err("no answer to DescribeConfigs in time".to_owned());
    }
    // SAFETY: live by the contract; names and values live as long as the event.
    unsafe {
        if sys::rd_kafka_event_error(event) as i32 != 0 {
            return Err(CStr::from_ptr(sys::rd_kafka_event_error_string(event)).to_string_lossy().into_owned());
        }
        let result = sys::rd_kafka_event_DescribeConfigs_result(event);
        if result.is_null() {
            return Err("the answer is no DescribeConfigs".to_owned());
        }
        let (mut count, mut all) = (0, HashMap::new());
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
        for index in 0..count {
            let resource = *resources.add(index);
            if sys::rd_kafka_ConfigResource_error(resource) as i32 != 0 {
                continue;
            }
            let mut entries_count = 0;
            let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut entries_count);
            let mut config =
                TopicConfig { compacted: true, message_bytes_max: None, deleted: false, retention_ms: None, retention_bytes: None };
            for entry in 0..entries_count {
                let entry = *entries.add(entry);
                let value = sys::rd_kafka_ConfigEntry_value(entry);
                if value.is_null() {
                    continue;
                }
                let (name, value) = (CStr::from_ptr(sys::rd_kafka_ConfigEntry_name(entry)), CStr::from_ptr(value).to_string_lossy());
                if name == c"cleanup.policy" {
                    config.compacted = value.split(',').any(|policy| policy.trim() == "compact");
                    config.deleted = value.split(',').any(|policy| policy.trim() == "delete");
                } else if name == c"retention.ms" {
                    config.retention_ms = value.parse().ok();
                } else if name == c"retention.bytes" {
                    config.retention_bytes = value.parse().ok();
                } else if name == c"max.message.bytes" {
                    config.message_bytes_max = value.parse().ok();
                }
            }
            let name = CStr::from_ptr(sys::rd_kafka_ConfigResource_name(resource)).to_string_lossy().into_owned();
            all.insert(name, config);
        }
        Ok(all)
    }
}

/// Describes topics, each name once. Asking leaves no trace in the client: the names are in none of its tables afterwards.
///
/// # Errors
/// librdkafka's word when the brokers do not answer in time.
pub(super) fn describe_topics(
    client: *mut sys::rd_kafka_t,
    names: &[&str],
    broker: Option<i32>,
    timeout: Duration,
) -> Result<Descriptions, String> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: `client` is live; whatever is made here is destroyed here, after what hangs on it.
    unsafe {
        let request = Request::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, broker, timeout);
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(request.options, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(client, topics, request.options, request.queue);
        let event = request.answer();
        let answer = described(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_TopicCollection_destroy(topics);
        answer
    }
}

/// # Safety
/// `event` is null, or the live result of a DescribeTopics.
unsafe fn described(event: *mut sys::rd_kafka_event_t) -> Result<Descriptions, String> {
    if event.is_null() {
        return Err("no answer to DescribeTopics in time".to_owned());
    }
    // SAFETY: live by the contract; names and ids live as long as the event.
    unsafe {
        if sys::rd_kafka_event_error(event) as i32 != 0 {
            return Err(CStr::from_ptr(sys::rd_kafka_event_error_string(event)).to_string_lossy().into_owned());
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err("the answer is no DescribeTopics".to_owned());
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut all = HashMap::new();
        for index in 0..count {
            let topic = *list.add(index);
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
            let error = sys::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() && sys::rd_kafka_error_code(error) as i32 != 0 {
                all.insert(name, Err(sys::rd_kafka_error_code(error)));
                continue;
            }
            let mut partitions = 0;
            sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let has_id =
                !id.is_null() && (sys::rd_kafka_Uuid_most_significant_bits(id) != 0 || sys::rd_kafka_Uuid_least_significant_bits(id) != 0);
            // Kafka writes ids in the URL-safe alphabet, librdkafka in the other one.
            let id = has_id.then(|| CStr::from_ptr(sys::rd_kafka_Uuid_base64str(id)).to_string_lossy().replace('+', "-").replace('/', "_"));
            let mut rights_count = 0;
            let rights = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut rights_count);
            let has = |right: sys::rd_kafka_AclOperation_t| (0..rights_count).any(|place| *rights.add(place) as u32 == right as u32);
            let is_readable = rights.is_null()
                || rights_count == 0
                || has(sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ)
                || has(sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL);
            all.insert(name, Ok(Described { id, is_readable, partitions: partitions as u32 }));
        }
        Ok(all)
    }
}

/// The leader epochs of a list's elements, in their order; -1 where Kafka did not say.
pub(super) fn leader_epochs(list: &TopicPartitionList) -> Vec<i32> {
    // SAFETY: the list is live and has so many elements.
    unsafe {
        let list = &*list.ptr();
        (0..list.cnt as usize).map(|place| sys::rd_kafka_topic_partition_get_leader_epoch(list.elems.add(place))).collect()
    }
}
