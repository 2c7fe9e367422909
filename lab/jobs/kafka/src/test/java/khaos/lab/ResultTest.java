package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.junit.jupiter.api.Test;

class ResultTest {

    @Test
    void aSpeedIsWrittenToTheHundredth() {
        assertEquals("{\"plate\":\"B-KH 17\",\"window_end\":15000,\"kmh\":90.07}", json(speed(90.0684)));
        assertEquals("{\"plate\":\"B-KH 17\",\"window_end\":15000,\"kmh\":70.0}", json(speed(70)));
    }

    @Test
    void fastIsSeventy() {
        assertTrue(speed(70).isFast());
        // Although it is written as 70.0.
        assertFalse(speed(69.9999).isFast());
    }

    @Test
    void aRecordHasItsKeyAndTheTimeOfItsWindow() {
        CampaignViews views = new CampaignViews("campaign-07", 10_000, 12);
        ProducerRecord<byte[], byte[]> record = new ResultWriter<>("out").serialize(views, null, 19_999L);
        assertEquals("out", record.topic());
        assertEquals(19_999L, record.timestamp());
        assertArrayEquals("campaign-07".getBytes(StandardCharsets.UTF_8), record.key());
        assertEquals("{\"campaign_id\":\"campaign-07\",\"window_start\":10000,\"views\":12}", json(views));
        assertArrayEquals(views.json(), record.value());
    }

    private static VehicleSpeed speed(double kmh) {
        return new VehicleSpeed("B-KH 17", 15_000, kmh);
    }

    private static String json(Result result) {
        return new String(result.json(), StandardCharsets.UTF_8);
    }
}
