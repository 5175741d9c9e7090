"""One small file of each kind that pictures come in: with what is right, and where the public met it."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 48, 32
LEFT, RIGHT = (200, 60, 30), (20, 90, 220)  # the colours of the two halves
DARK, LIGHT = 60, 200


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A file that reads as these colours left and right (as many numbers as channels), or is refused."""

    name: str
    make: Callable[[], bytes]
    left: tuple[int, ...] = LEFT
    right: tuple[int, ...] = RIGHT
    off: int = 4  # how far a colour may be off, of 255
    size: tuple[int, int] = (WIDTH, HEIGHT)
    frames: int = 1
    orientation: int = 1
    profile: str | None = None
    reason: str | None = None
    words: str = ""
    report: str = ""


def scene(mode: str = "RGB") -> Image.Image:
    left, right = (LEFT, RIGHT) if mode != "L" else (DARK, LIGHT)
    picture = Image.new("L" if mode == "L" else "RGB", (WIDTH, HEIGHT), right)
    picture.paste(left, (0, 0, WIDTH // 2, HEIGHT))
    return picture if mode in ("RGB", "L") else picture.convert(mode)


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    return png[:33] + chunk(kind, data) + png[33:]


def deep_png(colour: int, values: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits: values (H, W, C)."""
    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def deep(channels: tuple[tuple[int, int], ...]) -> np.ndarray:
    """16-bit values of both halves: 257 times those of 8."""
    values = np.zeros((HEIGHT, WIDTH, len(channels)), np.uint16)
    for n, (left, right) in enumerate(channels):
        values[:, : WIDTH // 2, n], values[:, WIDTH // 2 :, n] = left * 257, right * 257
    return values


RGB_DEEP = tuple(zip(LEFT, RIGHT, strict=True))


def icc(space: str, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """A profile of version 2 by hand (ICC.1:2001-04)."""
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += padded
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x02100000, kind, space.encode(), b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    return head + bytes(128 - len(head)) + table + body


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


# sRGB's primaries for the white of ICC (D50), as its standard profile has them.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
WHITE = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def rgb_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], power: float = 2.2) -> bytes:
    curve = gamma(power)
    primaries = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue)}
    return icc("RGB ", WHITE | primaries | {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


SWAPPED = rgb_profile(GREEN, RED, BLUE)
GREY_LINEAR = icc("GRAY", WHITE | {b"kTRC": gamma(1.0)})


def encoded(linear: float) -> int:
    """sRGB's curve (IEC 61966-2-1)."""
    return round(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


def cmyk_profile(size: int = 0) -> bytes:
    """Paper white by ink: a table of 2 steps a channel (`mft2`), in Lab, each ink taking its share of light."""
    steps = []
    for n in range(16):
        c, m, y, k = (n >> shift & 1 for shift in (3, 2, 1, 0))
        light = 0 if k else 100 - 25 * (c + m + y)
        steps += [round(light * 652.8), 0x8000, 0x8000]
    ramp = struct.pack(">2H", 0, 0xFFFF)
    lut = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    lut += struct.pack(">2H", 2, 2) + ramp * 4 + struct.pack(f">{len(steps)}H", *steps) + ramp * 3
    profile = bytearray(icc("CMYK", WHITE | {b"A2B0": lut} | ({b"pad ": bytes(size)} if size else {}), b"prtr"))
    profile[20:24] = b"Lab "
    return bytes(profile)


def kept(name: str, make: Callable[[], bytes], report: str = "", **right: object) -> Kind:
    return Kind(name=name, make=make, report=report, **right)  # type: ignore[arg-type]


def grey(name: str, make: Callable[[], bytes], report: str = "", **right: object) -> Kind:
    return kept(name, make, report, **({"left": (DARK,), "right": (LIGHT,)} | right))


def refused(name: str, make: Callable[[], bytes], reason: str, words: str, report: str = "") -> Kind:
    return Kind(name=name, make=make, reason=f"image_{reason}", words=words, report=report)


def kinds() -> Iterator[Kind]:
    """Every kind, in groups."""
    yield from _formats()
    yield from _depths()
    yield from _profiles()
    yield from _turned()
    yield from _beside()
    yield from _refused()


def _formats() -> Iterator[Kind]:
    rgb, flat = scene(), scene("L")
    yield kept("png", lambda: saved(rgb, "PNG"), off=0)
    yield kept("jpeg", lambda: saved(rgb, "JPEG", quality=95))
    yield kept("jpeg, progressive", lambda: saved(rgb, "JPEG", quality=95, progressive=True))
    yield grey("jpeg, grey", lambda: saved(flat, "JPEG", quality=95))
    yield kept("webp", lambda: saved(rgb, "WEBP", lossless=True), off=0)
    yield kept("gif", lambda: saved(rgb, "GIF"), off=2)
    yield kept("avif", lambda: saved(rgb, "AVIF", quality=95), "Difegue/LANraragi#1524", off=8)
    yield kept("bmp", lambda: saved(rgb, "BMP"), off=0)
    yield kept("tiff", lambda: saved(rgb, "TIFF"), off=0)
    for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield kept(f"tiff, {name}", lambda name=name: saved(rgb, "TIFF", compression=name), off=12)
    yield grey("tiff, grey", lambda: saved(flat, "TIFF"), off=0)
    yield kept("tiff, cmyk", lambda: saved(scene("CMYK"), "TIFF"))
    yield kept("tiff, lab", lambda: saved(_lab(), "TIFF"), profile="converted", off=8)
    pages = [scene("L")] * 2
    yield kept("tiff of three pages", lambda: saved(rgb, "TIFF", save_all=True, append_images=pages), off=0, frames=3)
    yield kept(
        "gif of three frames", lambda: saved(rgb, "GIF", save_all=True, append_images=_others()), off=2, frames=3
    )
    yield kept(
        "webp of three frames",
        lambda: saved(rgb, "WEBP", lossless=True, save_all=True, append_images=_others()),
        off=0,
        frames=3,
    )
    yield kept(
        "apng of three frames", lambda: saved(rgb, "PNG", save_all=True, append_images=_others()), off=0, frames=3
    )
    yield kept(
        "avif of three frames", lambda: saved(rgb, "AVIF", save_all=True, append_images=_others()), off=9, frames=3
    )
    yield kept("mpo", lambda: saved(rgb, "MPO", quality=95, save_all=True, append_images=_others()), frames=3)
    yield kept("jpeg, cmyk", lambda: saved(scene("CMYK"), "JPEG", quality=95), "lovell/sharp#2365", off=6)
    yield kept("jpeg, junk behind", lambda: saved(rgb, "JPEG", quality=95) + b"<html>" * 30)
    yield kept("jpeg, a film behind", lambda: saved(rgb, "JPEG", quality=95) + b"\xff\xda\0\2" * 2000)
    yield kept("png, junk behind", lambda: saved(rgb, "PNG") + bytes(200), off=0)
    yield kept("bmp with rle", _rle_bmp, left=(255, 0, 0), right=(0, 0, 255))


def _others() -> list[Image.Image]:
    return [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("white", "black")]


def _lab() -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(scene(), transform)


def _rle_bmp() -> bytes:
    """Runs of 24 pixels of colour 0 and of colour 1 (BI_RLE8)."""
    line = bytes([WIDTH // 2, 0, WIDTH // 2, 1, 0, 0])
    pixels = line * HEIGHT + b"\0\1"
    colours = b"\0\0\xff\0" + b"\xff\0\0\0"
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(pixels), 0, 0, 2, 2)
    start = 14 + len(head) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + colours + pixels


def _depths() -> Iterator[Kind]:
    one = ((DARK, LIGHT),)
    yield grey("png, grey of 16 bits", lambda: deep_png(0, deep(one)), "python-pillow/Pillow#3011", off=0)
    yield kept("png, 48 bits", lambda: deep_png(2, deep(RGB_DEEP)), off=0)
    clear = (*RGB_DEEP, (255, 0))
    yield kept("png, 64 bits", lambda: deep_png(6, deep(clear)), off=0, right=(255, 255, 255))
    shades = {"left": (DARK,) * 3, "right": (255,) * 3, "off": 0}
    yield kept("png, grey of 16 bits, alpha", lambda: deep_png(4, deep((*one, (255, 0)))), **shades)
    key = chunk(b"tRNS", struct.pack(">H", LIGHT * 257))
    yield grey("png, grey of 16 bits, one clear", lambda: deep_png(0, deep(one), key), off=0, right=(255,))
    wide = deep(one)[..., 0]
    report = "python-pillow/Pillow#1108"
    yield grey("tiff, grey of 16 bits", lambda: saved(Image.fromarray(wide), "TIFF"), report, off=0)
    yield grey("tiff, grey of 16 bits, big end first", lambda: _big_end(wide), "python-pillow/Pillow#7519", off=0)
    yield grey("tiff, grey of 12 bits", lambda: _tiff12(wide), off=1)
    yield kept("tiff, 48 bits", lambda: _tiff48(deep(RGB_DEEP)), off=0)
    yield grey("png of one bit", lambda: saved(scene("L").convert("1", dither=0), "PNG"), left=(0,), right=(255,))
    yield kept("png, palette", lambda: saved(scene().quantize(4), "PNG"), off=2)
    yield kept("png, palette, one clear", _clear_palette, off=2, right=(255, 255, 255))
    yield kept("png, alpha", lambda: saved(_clear_right(), "PNG"), off=0, right=(255, 255, 255))
    yield kept("webp, alpha", lambda: saved(_clear_right(), "WEBP", lossless=True), off=0, right=(255, 255, 255))
    yield kept("gif, one clear", lambda: saved(_clear_right(), "GIF"), off=2, right=(255, 255, 255))


def _clear_right() -> Image.Image:
    picture = scene().convert("RGBA")
    picture.paste((0, 0, 0, 0), (WIDTH // 2, 0, WIDTH, HEIGHT))
    return picture


def _clear_palette() -> bytes:
    picture = scene().quantize(4)
    return saved(picture, "PNG", transparency=picture.getpixel((WIDTH - 1, 0)))


def tiff(values: bytes, bits: tuple[int, ...], photometric: int, order: str = "<") -> bytes:
    """An uncompressed TIFF of one strip, by hand (TIFF 6.0)."""
    channels = len(bits)
    at = 8 + len(values) + len(values) % 2
    tail = struct.pack(f"{order}{channels}H", *bits) if channels > 2 else b""
    entries = [
        (256, 3, 1, WIDTH),
        (257, 3, 1, HEIGHT),
        (258, 3, channels, None if tail else bits[0]),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 3, 1, HEIGHT),
        (279, 4, 1, len(values)),
    ]
    behind = at + 2 + 12 * len(entries) + 4
    ifd = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        ifd += struct.pack(order + "HHI", tag, kind, count)
        short = kind == 3 and value is not None
        ifd += (
            struct.pack(order + "HH", value, 0)
            if short
            else struct.pack(order + "I", behind if value is None else value)
        )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", at) + values + bytes(len(values) % 2) + ifd + bytes(4) + tail


def _big_end(values: np.ndarray) -> bytes:
    return tiff(values.astype(">u2").tobytes(), (16,), 1, ">")


def _tiff12(values: np.ndarray) -> bytes:
    """Two values in three bytes, of a scanner."""
    short = (values >> 4).astype(np.uint32).reshape(-1, 2)
    packed = short[:, 0] << 12 | short[:, 1]
    return tiff(b"".join(int(v).to_bytes(3, "big") for v in packed), (12,), 1)


def _tiff48(values: np.ndarray) -> bytes:
    return tiff(values.astype("<u2").tobytes(), (16, 16, 16), 2)


def _profiles() -> Iterator[Kind]:
    rgb = scene()
    turned = tuple(LEFT[n] for n in (1, 0, 2)), tuple(RIGHT[n] for n in (1, 0, 2))
    swapped = {"left": turned[0], "right": turned[1], "profile": "converted", "off": 10}
    report = "OpenDisplay/Home_Assistant_Integration#73"
    yield kept("png, red and green swapped", lambda: saved(rgb, "PNG", icc_profile=SWAPPED), report, **swapped)
    yield kept(
        "jpeg, red and green swapped",
        lambda: saved(rgb, "JPEG", quality=95, icc_profile=SWAPPED),
        "cgwire/zou#1188",
        **swapped,
    )
    for form in ("WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        yield kept(
            f"{form.lower()}, red and green swapped",
            lambda form=form, options=options: saved(rgb, form, icc_profile=SWAPPED, **options),
            **swapped,
        )
    yield kept(
        "avif, red and green swapped", lambda: saved(rgb, "AVIF", icc_profile=SWAPPED), **(swapped | {"off": 12})
    )
    yield kept("palette, swapped", lambda: saved(rgb.quantize(4), "PNG", icc_profile=SWAPPED), **swapped)
    white = swapped | {"right": (255, 255, 255)}
    yield kept("alpha, swapped", lambda: saved(_clear_right(), "PNG", icc_profile=SWAPPED), "Pillow#1662", **white)
    yield kept("png, sRGB", lambda: saved(rgb, "PNG", icc_profile=SRGB), off=0, profile="srgb")
    grown = tuple(encoded(v / 255) for v in (DARK, LIGHT))
    yield grey(
        "grey, linear",
        lambda: saved(scene("L"), "PNG", icc_profile=GREY_LINEAR),
        "python-pillow/Pillow#6666",
        left=grown[:1],
        right=grown[1:],
        profile="converted",
    )
    yield grey("16 bits of grey, linear", _deep_linear, left=grown[:1], right=grown[1:], profile="converted")
    yield kept(
        "cmyk with a profile",
        lambda: saved(Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 0)), "JPEG", icc_profile=cmyk_profile()),
        "thumbor/thumbor#586",
        left=(255, 255, 255),
        right=(255, 255, 255),
        profile="converted",
    )
    odd = {"profile": "unusable", "off": 0}
    yield kept("profile of grey in colours", lambda: saved(rgb, "PNG", icc_profile=GREY_LINEAR), **odd)
    yield kept("profile of noise", lambda: saved(rgb, "PNG", icc_profile=b"noise" * 99), **odd)
    yield kept("profile cut", lambda: saved(rgb, "PNG", icc_profile=SWAPPED[:200]), **odd)
    yield kept(
        "rgb profile in cmyk",
        lambda: saved(scene("CMYK"), "JPEG", quality=95, icc_profile=SWAPPED),
        "ImageMagick/ImageMagick#3209",
        profile="unusable",
        off=6,
    )


def _deep_linear() -> bytes:
    packed = b"linear\0\0" + zlib.compress(GREY_LINEAR)
    return deep_png(0, deep(((DARK, LIGHT),)), chunk(b"iCCP", packed))


def _turned() -> Iterator[Kind]:
    exchanged, mirrored = {"size": (HEIGHT, WIDTH)}, {"left": RIGHT, "right": LEFT}
    for n in range(2, 9):
        right = exchanged if n >= 5 else mirrored if n in (2, 3) else {}
        exif = Image.Exif()
        exif[0x0112] = n
        # Of a picture that lies on its side the halves are above each other: 5 and 6 have the left one on top.
        turned = right | (
            {"left": LEFT, "right": RIGHT} if n in (5, 6) else {"left": RIGHT, "right": LEFT} if n > 6 else {}
        )
        yield kept(
            f"jpeg, orientation {n}",
            lambda exif=exif: saved(scene(), "JPEG", quality=95, exif=exif),
            "woelper/oculante#468",
            orientation=n,
            **turned,
        )
    six = Image.Exif()
    six[0x0112] = 6
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        yield kept(
            f"{form.lower()}, orientation 6",
            lambda form=form, options=options: saved(scene(), form, exif=six, **options),
            orientation=6,
            off=0,
            **exchanged,
        )
    nine = Image.Exif()
    nine[0x0112] = 9
    yield kept("jpeg, orientation 9", lambda: saved(scene(), "JPEG", quality=95, exif=nine))
    noise = b"Exif\0\0" + b"noise" * 20
    yield kept("jpeg, exif that is none", lambda: saved(scene(), "JPEG", quality=95, exif=noise), "Pillow#7879")


def _beside() -> Iterator[Kind]:
    png = saved(scene(), "PNG")
    large = b"k\0\0" + zlib.compress(bytes(2 << 20))
    report = "python-pillow/Pillow#8363"
    yield kept("png, 2 MB of packed text", lambda: with_chunk(png, b"zTXt", large), report, off=0)
    yield kept("png, 2 MB of text", lambda: with_chunk(png, b"tEXt", b"k\0" + b"x" * (2 << 20)), off=0)
    words = b"k\0\1\0\0\0" + zlib.compress(b"x" * (3 << 20))
    yield kept("png, 3 MB of packed words", lambda: with_chunk(png, b"iTXt", words), "hiyouga/LlamaFactory#6300", off=0)
    late = png[:-12] + chunk(b"zTXt", large) + png[-12:]
    yield kept("png, text behind the pixels", lambda: late, off=0)
    profile = b"big\0\0" + zlib.compress(SWAPPED + bytes(2 << 20))
    yield kept("png, 2 MB of profile", lambda: with_chunk(png, b"iCCP", profile), "KatherLab/STAMP#76", **_either())
    huge = b"big\0\0" + zlib.compress(SWAPPED + bytes(9 << 20))
    yield kept("png, 9 MB of profile", lambda: with_chunk(png, b"iCCP", huge), off=0, profile="unusable")


def _either() -> dict[str, object]:
    return {
        "left": (LEFT[1], LEFT[0], LEFT[2]),
        "right": (RIGHT[1], RIGHT[0], RIGHT[2]),
        "profile": "converted",
        "off": 10,
    }


def bomb_text(count: int = 1) -> bytes:
    """70 MB of text in 300 kB."""
    png = saved(scene(), "PNG")
    for _ in range(count):
        png = with_chunk(png, b"zTXt", b"k\0\0" + zlib.compress(bytes(70 << 20), 1))
    return png


def many_scans(count: int) -> bytes:
    """A progressive JPEG with its last scan again and again."""
    data = saved(scene("L"), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * count + data[-2:]


def _box(brand: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + brand
    return struct.pack(">I", len(body) + 4) + body + bytes(99)


def _refused() -> Iterator[Kind]:
    for name, data, words in (
        ("empty", b"", "empty"),
        ("page", b"<!doctype html><title>404</title>", "HTML page"),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("heic", _box(b"heic"), "HEIC"),
        ("jpeg xl", b"\xff\x0a" + bytes(99), "JPEG XL"),
        ("jpeg 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000"),
        ("psd", b"8BPS\0\1" + bytes(99), "Photoshop file"),
        ("icon", b"\0\0\1\0\1\0" + bytes(99), "icon"),
        ("pdf", b"%PDF-1.7\n", "PDF"),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n", "text"),
        ("json", b'{"error": "gone"}', "JSON"),
        ("film", _box(b"isom"), "MP4"),
        ("zeros", bytes(999), "binary data"),
    ):
        yield refused(name, lambda data=data: data, "undecodable", words)
    yield refused("png, too much packed text", bomb_text, "undecodable", "PNG: more than 64 MiB of text")
    yield refused("jpeg of 600 scans", lambda: many_scans(600), "undecodable", "scans", "NVIDIA/DALI#5316")
    yield refused("tiff of floats", _floats, "undecodable", "no defined range")
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"):
        noise = Image.effect_noise((96, 96), 90)
        yield refused(f"{form.lower()}, cut", lambda form=form, noise=noise: _cut(saved(noise, form)), "truncated", "")
    yield refused("tiff, cut", lambda: _cut(saved(Image.effect_noise((96, 96), 90), "TIFF")), "truncated", "TIFF")
    for form, start in (("PNG", 16), ("BMP", 18)):
        yield refused(
            f"{form.lower()} of 60,000 pixels a side",
            lambda f=form, s=start: _huge(f, s),
            "too_large",
            " of more than ",
        )


def _floats() -> bytes:
    return saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def _huge(form: str, start: int) -> bytes:
    data = bytearray(saved(scene(), form))
    data[start : start + 8] = struct.pack(">II" if form == "PNG" else "<II", 60_000, 60_000)
    if form == "PNG":
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)
