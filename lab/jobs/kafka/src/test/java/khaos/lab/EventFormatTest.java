package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class EventFormatTest {

    private static final VehicleFormat VEHICLES = new VehicleFormat();
    private static final AdEventFormat ADS = new AdEventFormat();

    @Test
    void readsAVehicle() throws IOException {
        String json = "{\"plate\":\"B-KH 17\",\"lat\":52.51623,\"lon\":-13,\"time\":1764054000123,\"more\":[1]}";
        assertEquals(new Vehicle(3, "B-KH 17", 52.51623, -13, 1_764_054_000_123L), VEHICLES.read(3, bytes(json)));
    }

    @Test
    void readsAnAdEvent() throws IOException {
        assertEquals(new AdEvent(2, "ad-0457", true, 1_764_054_000_123L), ADS.read(2, bytes(ad("view"))));
        assertEquals(new AdEvent(2, "ad-0457", false, 1_764_054_000_123L), ADS.read(2, bytes(ad("click"))));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "{\"lat\":1,\"lon\":1,\"time\":1} | 'plate' is not text",
                "{\"plate\":7,\"lat\":1,\"lon\":1,\"time\":1} | 'plate' is not text",
                "{\"plate\":\"a\",\"lat\":\"1\",\"lon\":1,\"time\":1} | 'lat' is not a number within ±90",
                "{\"plate\":\"a\",\"lat\":90.5,\"lon\":1,\"time\":1} | 'lat' is not a number within ±90",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":-181,\"time\":1} | 'lon' is not a number within ±180",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":1} | 'time' is not a whole number from 0 to",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":1,\"time\":-1} | 'time' is not a whole number from 0 to",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":1,\"time\":1.5} | 'time' is not a whole number from 0 to",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":1,\"time\":9223372036854775808} | 'time' is not a whole number",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":1,\"time\":253402300800000} | 'time' is not a whole number from 0 to",
                "[1] | not a JSON object",
                "1 | not a JSON object",
                "{\"plate\":\"a\",\"lat\":1,\"lon\":1,\"time\":1} x | Unrecognized token 'x'",
                "{\"plate\":\"a\" | Unexpected end-of-input",
            })
    void whatIsNoVehicleSaysWhy(String json, String why) {
        String said = assertThrows(IOException.class, () -> VEHICLES.read(0, bytes(json))).getMessage();
        assertTrue(said.startsWith(why), said);
    }

    @Test
    void theLastTimeIsTheEndOfTheYear9999() throws IOException {
        long lastMs = Instant.parse("9999-12-31T23:59:59.999Z").toEpochMilli();
        String json = "{\"plate\":\"a\",\"lat\":1,\"lon\":1,\"time\":" + lastMs + "}";
        assertEquals(new Vehicle(0, "a", 1, 1, lastMs), VEHICLES.read(0, bytes(json)));
    }

    @Test
    void aRecordWithoutAValueIsNoEvent() {
        assertThrows(IOException.class, () -> VEHICLES.read(0, null));
        assertThrows(IOException.class, () -> ADS.read(0, new byte[0]));
    }

    private static String ad(String type) {
        return "{\"user_id\":\"u\",\"page_id\":\"p\",\"ad_id\":\"ad-0457\",\"ad_type\":\"banner\",\"event_type\":\""
                + type
                + "\",\"event_time\":1764054000123,\"ip_address\":\"1.2.3.4\"}";
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
