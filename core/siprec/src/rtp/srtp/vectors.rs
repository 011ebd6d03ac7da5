//! The examples of RFC 3711 appendix B, RFC 6188 §7 and RFC 7714 §16 and §17.

use super::session_keys::SessionKeys;
use super::{MasterKey, Suite};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn the_key_streams_are_those_of_rfc_3711_b_2_and_rfc_6188_7_1_and_7_3() {
    // Key, the first three blocks, and blocks 0xfeff to 0xff01.
    let examples = [
        (
            Suite::AesCm128Sha1Tag80,
            "2B7E151628AED2A6ABF7158809CF4F3C",
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
             41E95B3BB0A2E8DD477901E4FCA894C0",
            "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE
             6A2CC3787889374FBEB4C81B17BA6C44",
        ),
        (
            Suite::AesCm192Sha1Tag80,
            "eab234764e517b2d3d160d587d8c86219740f65f99b6bcf7",
            "35096cba4610028dc1b57503804ce37c 5de986291dcce161d5165ec4568f5c9a
             474a40c77894bc17180202272a4c264d",
            "d108d1a31a00bad6367ec23eb044b415 c8f57129fdeb970b59f917b257662d4c
             a5dab625811034e8cebdfeb6dc158dd3",
        ),
        (
            Suite::AesCm256Sha1Tag80,
            "57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98",
            "92bdd28a93c3f52511c677d08b5515a4 9da71b2378a854f67050756ded165bac
             63c4868b7096d88421b563b8c94c9a31",
            "cea518c90fd91ced9cbb18c078a54711 3dbc4814f4da5f00a08772b63c6a046d
             6eb246913062a16891433e97dd01a57f",
        ),
    ];
    for (suite, key, first, last) in examples {
        let keys = SessionKeys::given(suite, &hex(key), &hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"));
        let stream = keys.keystream(0, 0, 0xff02);
        assert_eq!(stream[..48], hex(first), "{suite:?}");
        assert_eq!(stream[0xfeff * 16..], hex(last), "{suite:?}");
    }
}

#[test]
fn keys_are_derived_as_in_rfc_3711_b_3() {
    let master = [hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6")];
    let master = MasterKey::new(Suite::AesCm128Sha1Tag80, &master.concat(), &[]).unwrap();
    let derived = |label, bytes| SessionKeys::derived(&master, label, bytes);
    assert_eq!(derived(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derived(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let auth_key = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
         E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
         6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(derived(1, 94), hex(auth_key));
}

#[test]
fn keys_are_derived_as_in_rfc_6188_7_2_and_7_4() {
    let examples = [
        (
            Suite::AesCm256Sha1Tag80,
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
            "3b04803de51ee7c96423ab5b78d2",
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
            "fa31791685ca444a9e07c6c64e93",
            "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05",
        ),
        (
            Suite::AesCm192Sha1Tag80,
            "73edc66c4fa15776fb57f9505c17136550ffda71f3e8e5f1",
            "c8522f3acd4ce86d5add78edbb11",
            "31874736a8f1143870c26e4857d8a5b2c4a354407faadabb",
            "2372b82d639b6d8503a47adc0a6c",
            "355b10973cd95b9eacf4061c7e1a7151e7cfbfcb",
        ),
    ];
    for (suite, key, salt, cipher_key, cipher_salt, auth_key) in examples {
        let master = MasterKey::new(suite, &[hex(key), hex(salt)].concat(), &[]).unwrap();
        let derived = |label, bytes| SessionKeys::derived(&master, label, bytes);
        assert_eq!(derived(0, suite.key_bytes()), hex(cipher_key));
        assert_eq!(derived(1, 20), hex(auth_key));
        assert_eq!(derived(2, 14), hex(cipher_salt));
    }
}

const GCM_SALT: &str = "517569642070726f2071756f";

fn gcm(suite: Suite) -> SessionKeys {
    let key: Vec<u8> = (0..suite.key_bytes() as u8).collect();
    SessionKeys::given(suite, &key, &hex(GCM_SALT))
}

#[test]
fn gcm_seals_and_opens_the_packet_of_rfc_7714_16() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
         69736120 696e2070 61727465 73207472 6573");
    let examples = [
        (
            Suite::AeadAes128Gcm,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
             0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            Suite::AeadAes256Gcm,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
             9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ];
    for (suite, sealed) in examples {
        let keys = gcm(suite);
        let mut packet = plain.clone();
        keys.seal_rtp(&mut packet, 12, 0xf17b);
        assert_eq!(packet, hex(sealed), "{suite:?}");
        let opened = keys.open_rtp(&packet, 12, 0, [0]).unwrap();
        assert_eq!(keys.plain_rtp(&packet, opened), plain);
    }
}

#[test]
fn gcm_seals_and_opens_the_compound_of_rfc_7714_17() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef");
    let examples = [
        (
            Suite::AeadAes128Gcm,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
             c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
             45d9eade 800005d4",
        ),
        (
            Suite::AeadAes256Gcm,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
             a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c
             b26ac3be 800005d4",
        ),
    ];
    for (suite, sealed) in examples {
        let keys = gcm(suite);
        let mut compound = plain.clone();
        keys.seal_rtcp(&mut compound, 0x5d4);
        assert_eq!(compound, hex(sealed), "{suite:?}");
        assert_eq!(keys.open_rtcp(&compound, 0).unwrap(), plain);
    }
}

#[test]
fn gcm_tags_what_is_not_encrypted_as_in_rfc_7714_16_and_17() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
         69736120 696e2070 61727465 73207472 6573");
    let mut packet = plain.clone();
    let keys = gcm(Suite::AeadAes128Gcm).without_encryption();
    keys.seal_rtp(&mut packet, 12, 0xf17b);
    assert_eq!(packet[plain.len()..], hex("22493f82 d2bce397 e9d79e3b 19aa4216"));
    let opened = keys.open_rtp(&packet, 12, 0, [0]).unwrap();
    assert_eq!(keys.plain_rtp(&packet, opened), plain);

    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef");
    for (suite, tag) in [
        (Suite::AeadAes128Gcm, "841dd968 3dd78ec9 2ae58790 125f62b3"),
        (Suite::AeadAes256Gcm, "91db4afb feee5a97 8fab4393 ed2615fe"),
    ] {
        let keys = gcm(suite).without_encryption();
        let mut compound = plain.clone();
        keys.seal_rtcp(&mut compound, 0x5d4);
        assert_eq!(compound[plain.len()..], [hex(tag), hex("000005d4")].concat());
        // The packet says that it is not encrypted, so that anybody with the key can read it.
        assert_eq!(gcm(suite).open_rtcp(&compound, 0).unwrap(), plain);
    }
}
