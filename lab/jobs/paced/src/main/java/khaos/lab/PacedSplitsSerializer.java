package khaos.lab;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** A list of splits as bytes: the enumerator's state, and with one element a reader's split. */
final class PacedSplitsSerializer implements SimpleVersionedSerializer<List<PacedSplit>> {

    private static final int BYTES_PER_SPLIT = 2 * Integer.BYTES + 3 * Long.BYTES;

    @Override
    public int getVersion() {
        return 1;
    }

    @Override
    public byte[] serialize(List<PacedSplit> splits) {
        ByteBuffer bytes = ByteBuffer.allocate(splits.size() * BYTES_PER_SPLIT);
        for (PacedSplit split : splits) {
            bytes.putInt(split.index()).putInt(split.count());
            bytes.putLong(split.epochMs()).putLong(split.primed()).putLong(split.position());
        }
        return bytes.array();
    }

    @Override
    public List<PacedSplit> deserialize(int version, byte[] serialized) throws IOException {
        if (version != getVersion() || serialized.length % BYTES_PER_SPLIT != 0) {
            throw new IOException("not a list of splits: version " + version + ", " + serialized.length + " bytes");
        }
        ByteBuffer bytes = ByteBuffer.wrap(serialized);
        List<PacedSplit> splits = new ArrayList<>();
        while (bytes.hasRemaining()) {
            splits.add(
                    new PacedSplit(
                            bytes.getInt(), bytes.getInt(), bytes.getLong(), bytes.getLong(), bytes.getLong()));
        }
        return splits;
    }

    /** The same for a single split. */
    static final class One implements SimpleVersionedSerializer<PacedSplit> {

        private final PacedSplitsSerializer list = new PacedSplitsSerializer();

        @Override
        public int getVersion() {
            return list.getVersion();
        }

        @Override
        public byte[] serialize(PacedSplit split) {
            return list.serialize(List.of(split));
        }

        @Override
        public PacedSplit deserialize(int version, byte[] serialized) throws IOException {
            return list.deserialize(version, serialized).get(0);
        }
    }
}
