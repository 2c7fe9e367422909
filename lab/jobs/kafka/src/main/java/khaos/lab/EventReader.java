package khaos.lab;

import java.io.IOException;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.metrics.Counter;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Reads events. A record that is none is left out and counted, as {@code malformed}: it would be none again. */
final class EventReader<T> implements KafkaRecordDeserializationSchema<T> {

    private static final long serialVersionUID = 1L;

    private final EventFormat<T> format;
    private transient Counter malformed;

    EventReader(EventFormat<T> format) {
        this.format = format;
    }

    @Override
    public void open(DeserializationSchema.InitializationContext context) {
        malformed = context.getMetricGroup().counter("malformed");
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<T> out) {
        T event;
        try {
            event = format.read(record.partition(), record.value());
        } catch (IOException e) {
            malformed.inc();
            return;
        }
        out.collect(event);
    }

    @Override
    public TypeInformation<T> getProducedType() {
        return format.type();
    }
}
