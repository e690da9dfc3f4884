// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// A contract that verifies quotes of Intel TDX (DCAP), such as the ones that exist on many chains:
/// signature, PCK chain, revocation lists, and a TCB status that is in its own list.
interface IQuotes {
    function isGenuine(bytes calldata quote) external view returns (bool);
}

/// A sketch: a contract that acts on answers of a teeverify/1 server (docs/protocol.md). Not audited.
///
/// It proves what the chain can check: that a key lives in a genuine TDX VM that runs listed code, and
/// that this key signed an answer to a request of this contract. GPUs are not checked here: they rest
/// on the listed code.
contract Answers {
    struct Answer {
        bytes32 statement;
        bytes32 instance;
        bytes32 challenge;
        bytes32 request;
        bytes32 response;
        uint64 sequence;
        uint64 time;
        uint16 status;
        uint8 end;
    }

    struct Signer {
        bytes32 instance;
        uint64 expires;
    }

    struct Request {
        bytes32 content; // SHA-256 of the request's exact bytes; zero: any
        bool open;
    }

    bytes32 public constant ANSWER_TYPE = keccak256(
        "Answer(bytes32 statement,bytes32 instance,bytes32 challenge,bytes32 request,bytes32 response,"
        "uint64 sequence,uint64 time,uint16 status,uint8 end)"
    );
    bytes32 public constant DOMAIN = keccak256(
        abi.encode(
            keccak256("EIP712Domain(string name,string version)"), keccak256("teeverify"), keccak256("1")
        )
    );
    bytes32 private constant TAG = "teeverify/1";
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    // A quote: header of 48 bytes, then the TD report's body of 584.
    uint256 private constant BODY = 48;
    uint64 private constant LIFETIME = 1 days;

    IQuotes public immutable quotes;
    mapping(bytes32 => bool) public listed;
    mapping(bytes32 => uint256) public nonces;
    mapping(address => Signer) public signers;
    mapping(uint256 => Request) public requests;
    uint256 public count;

    event Issued(bytes32 nonce);
    event Registered(address indexed signer, bytes32 instance);
    event Used(uint256 indexed request, bytes32 response);

    /// code: keccak256 of mr_td, mr_config_id, rtmr0 to rtmr3, each 48 bytes.
    constructor(IQuotes quotes_, bytes32[] memory code) {
        quotes = quotes_;
        for (uint256 i = 0; i < code.length; i++) {
            listed[code[i]] = true;
        }
    }

    /// A nonce for the next attestation: fetch `/v1/attestation/report?nonce=...` with it.
    function newNonce() external {
        bytes32 nonce = keccak256(abi.encode(blockhash(block.number - 1), address(this), ++count));
        nonces[nonce] = block.number;
        emit Issued(nonce);
    }

    /// A request; the answer's challenge must follow from its number.
    function ask(bytes32 content) external returns (uint256 number) {
        number = ++count;
        requests[number] = Request(content, true);
    }

    function beaconOf(uint256 number) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), number));
    }

    /// Take in the signing key of a server. Everything about it comes from the quote, nothing from the
    /// caller.
    function register(bytes calldata quote, bytes calldata binding) external {
        require(quotes.isGenuine(quote), "quote");
        bytes calldata body = quote[BODY:BODY + 584];
        require(uint8(body[120]) & 1 == 0, "debug");
        bytes32 code = keccak256(abi.encodePacked(body[136:184], body[184:232], body[328:520]));
        require(listed[code], "code");
        require(bytes32(body[552:584]) == TAG, "layout");
        require(binding.length == 262 && bytes16(binding[0:16]) == "teeverify/1 bind", "tag");
        require(bytes32(body[520:552]) == sha256(binding), "binding");
        uint16 flags = uint16(bytes2(binding[48:50]));
        require(flags & 1 == 1 && flags < 32, "flags");
        bytes32 nonce = bytes32(binding[16:48]);
        require(nonces[nonce] != 0 && block.number - nonces[nonce] <= 256, "nonce");
        delete nonces[nonce];
        address signer = address(bytes20(binding[50:70]));
        require(signer != address(0) && signers[signer].expires <= block.timestamp, "signer");
        bytes32 instance = sha256(abi.encodePacked("teeverify/1 inst", binding[48:230]));
        signers[signer] = Signer(instance, uint64(block.timestamp) + LIFETIME);
        emit Registered(signer, instance);
    }

    function digestOf(Answer calldata answer) public pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", DOMAIN, keccak256(abi.encode(ANSWER_TYPE, answer))));
    }

    function signerOf(Answer calldata answer, bytes calldata signature) public pure returns (address) {
        require(signature.length == 65, "length");
        uint8 v = uint8(signature[64]);
        require(v == 27 || v == 28, "v");
        require(uint256(bytes32(signature[32:64])) <= HALF_ORDER, "high s");
        return ecrecover(digestOf(answer), v, bytes32(signature[0:32]), bytes32(signature[32:64]));
    }

    /// Act on an answer, once.
    function use(
        Answer calldata answer,
        bytes calldata signature,
        uint256 number,
        bytes32 random,
        bytes32 attestation
    ) external {
        Request memory asked = requests[number];
        require(asked.open, "request");
        Signer memory signer = signers[signerOf(answer, signature)];
        require(signer.expires > block.timestamp, "signer");
        require(signer.instance == answer.instance, "instance");
        require(answer.status == 200 && answer.end == 1, "no answer");
        require(asked.content == 0 || asked.content == answer.request, "content");
        bytes32 challenge =
            sha256(abi.encodePacked("teeverify/1 chal", random, attestation, beaconOf(number)));
        require(answer.challenge == challenge, "challenge");
        requests[number].open = false;
        emit Used(number, answer.response);
    }
}
