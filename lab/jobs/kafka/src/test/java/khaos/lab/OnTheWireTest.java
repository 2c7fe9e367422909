package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;

import java.io.IOException;
import org.apache.flink.api.common.serialization.SerializerConfigImpl;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.java.typeutils.PojoTypeInfo;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.junit.jupiter.api.Test;

/** Flink passes everything on by its own serializers, field by field, and not by reflection on whole objects. */
class OnTheWireTest {

    @Test
    void whatIsPassedOnOrKeptComesBack() throws IOException {
        comesBack(new Vehicle(3, "B-KH 17", 52.5, 13.4, 1_764_054_000_123L));
        comesBack(new AdEvent(2, "ad-0457", true, 1_764_054_000_123L));
        comesBack(new VehicleSpeed("B-KH 17", 15_000, 90.07));
        comesBack(new CampaignViews("campaign-07", 10_000, 12));
        comesBack(new Track(new Fix(1, 52.5, 13.4), new Fix(2, 52.6, 13.3)));
        comesBack(Track.NONE);
    }

    @SuppressWarnings("unchecked")
    private static <T> void comesBack(T value) throws IOException {
        TypeInformation<T> type = (TypeInformation<T>) TypeInformation.of(value.getClass());
        assertInstanceOf(PojoTypeInfo.class, type);
        TypeSerializer<T> serializer = type.createSerializer(new SerializerConfigImpl());
        DataOutputSerializer out = new DataOutputSerializer(64);
        serializer.serialize(value, out);
        assertEquals(value, serializer.deserialize(new DataInputDeserializer(out.getCopyOfBuffer())));
        assertEquals(value, serializer.copy(value));
    }
}
