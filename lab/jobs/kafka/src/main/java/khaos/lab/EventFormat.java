package khaos.lab;

import java.io.IOException;
import java.io.Serializable;
import org.apache.flink.api.common.typeinfo.TypeInformation;

/** How events of one kind are written. */
interface EventFormat<T> extends Serializable {

    /** Reads the event that is {@code value} in {@code partition}; what is none says why. */
    T read(int partition, byte[] value) throws IOException;

    /** What Flink has to know to pass them on. */
    TypeInformation<T> type();
}
