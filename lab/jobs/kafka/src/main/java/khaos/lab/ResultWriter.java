package khaos.lab;

import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Writes results to a topic. The timestamp of each is that of its window: the last millisecond in it. */
record ResultWriter<T extends Result>(String topic) implements KafkaRecordSerializationSchema<T> {

    @Override
    public ProducerRecord<byte[], byte[]> serialize(T result, KafkaSinkContext context, Long timestampMs) {
        return new ProducerRecord<>(topic, null, timestampMs, result.key(), result.json());
    }
}
