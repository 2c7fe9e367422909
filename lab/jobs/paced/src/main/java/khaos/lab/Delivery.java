package khaos.lab;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.UUID;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/**
 * What one subtask delivers with one checkpoint.
 *
 * @param id its own among all jobs and attempts; it travels in checkpoints, so that a repeated commit is known as such
 * @param events how many
 * @param sum of their indices, so that a lost event is not made up for by another that came twice
 */
record Delivery(UUID id, long events, long sum) {

    /** As bytes. */
    static final class Serializer implements SimpleVersionedSerializer<Delivery> {

        private static final int BYTES = 4 * Long.BYTES;

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(Delivery delivery) {
            UUID id = delivery.id();
            ByteBuffer bytes = ByteBuffer.allocate(BYTES);
            bytes.putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
            return bytes.putLong(delivery.events()).putLong(delivery.sum()).array();
        }

        @Override
        public Delivery deserialize(int version, byte[] serialized) throws IOException {
            if (version != getVersion() || serialized.length != BYTES) {
                throw new IOException("not a delivery: version " + version + ", " + serialized.length + " bytes");
            }
            ByteBuffer bytes = ByteBuffer.wrap(serialized);
            return new Delivery(new UUID(bytes.getLong(), bytes.getLong()), bytes.getLong(), bytes.getLong());
        }
    }
}
