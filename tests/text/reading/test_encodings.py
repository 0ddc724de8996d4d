"""Files that are not UTF-8: named in errors, read with preprocess.encoding, never guessed."""

import gzip
import io
import json

import pytest

from lib.params import Preprocess
from lib.run.errors import UserError
from lib.text.reading.encodings import MIXED, encoding_of, likely_encoding, text_encoding
from lib.text.reading.raw_files import examine
from lib.text.reading.rejections import Rejections
from tests.helpers.raw_text import read

# Text of each language, and encodings it was usual in.
TEXTS = {
    (
        "cp1254",
        "iso8859-9",
    ): (
        "Türkiye'nin en büyük şehri olan İstanbul, her yıl milyonlarca turisti ağırlıyor."
        " Geçtiğimiz günlerde açıklanan verilere göre, şehrin nüfusu on altı milyonu "
        "aştı. Belediye başkanı yaptığı konuşmada, ulaşım sorunlarının çözülmesi için "
        "yeni metro hatlarının açılacağını söyledi. Öğrenciler ise okulların açılmasıyla "
        "birlikte yoğun bir döneme giriyor. Çocuğun gözleri ışıl ışıldı; güneş doğuyordu."
    ),
    (
        "cp1251",
        "koi8-r",
    ): (
        "Москва является крупнейшим городом России и одним из самых больших городов "
        "Европы. Каждый год сюда приезжают миллионы туристов, чтобы увидеть Красную "
        "площадь и Кремль. На прошлой неделе мэр города объявил об открытии новых станций"
        " метро. Студенты возвращаются в университеты после летних каникул, и жизнь снова"
        " становится шумной."
    ),
    ("cp1256",): (
        "تعد القاهرة أكبر مدينة في العالم العربي، ويزورها ملايين السياح كل عام. أعلنت "
        "الحكومة أمس عن خطة جديدة لتحسين النقل العام في المدينة. وقال الوزير إن المشروع "
        "سيبدأ في بداية العام المقبل. عاد الطلاب إلى المدارس بعد العطلة الصيفية، وأصبحت "
        "الشوارع مزدحمة مرة أخرى."
    ),
    (
        "iso8859-2",
        "cp1250",
    ): (
        "Warszawa jest największym miastem w Polsce i co roku odwiedzają ją miliony "
        "turystów. W zeszłym tygodniu prezydent miasta ogłosił otwarcie nowych stacji "
        "metra. Uczniowie wracają do szkół po wakacjach, a życie znów staje się głośne. "
        "Mężczyzna źle się poczuł, więc poszedł do łóżka. Gżegżółka siedziała na gałęzi."
    ),
    (
        "shift_jis",
        "euc_jp",
    ): (
        "東京は日本最大の都市であり、毎年何百万人もの観光客が訪れています。先週、市長は新"
        "しい地下鉄の駅を開くと発表しました。学生たちは夏休みの後に学校に戻り、街は再びに"
        "ぎやかになりました。彼は静かに本を読んでいた。"
    ),
    ("gb18030",): (
        "北京是中国的首都，每年接待数以百万计的游客。上周，市长宣布将开通新的地铁线路，以"
        "解决交通拥堵问题。暑假结束后，学生们返回学校，城市再次变得热闹起来。他坐在窗前静"
        "静地读书，外面下着小雨。"
    ),
    ("big5",): (
        "臺北是臺灣的首都，每年接待數以百萬計的遊客。上週，市長宣布將開通新的捷運路線，以"
        "解決交通擁堵問題。暑假結束後，學生們返回學校，城市再次變得熱鬧起來。他坐在窗前靜"
        "靜地讀書，外面下著小雨。"
    ),
    ("cp1252",): (
        "Paris est la plus grande ville de France et accueille chaque année des millions "
        "de touristes. La semaine dernière, le maire a annoncé l’ouverture de nouvelles "
        "stations de métro. Les élèves retournent à l’école après les vacances d’été, et "
        "la vie redevient bruyante. « C’est très beau », a-t-elle déclaré."
    ),
    ("euc_kr",): (
        "서울은 대한민국의 수도이며 매년 수백만 명의 관광객이 방문합니다. "
        "지난주 시장은 새로운 지하철역을 열겠다고 발표했습니다. "
        "학생들은 여름 방학이 "
        "끝난 후 학교로 돌아갔고 거리는 다시 붐비기 시작했습니다."
    ),
    ("iso8859-7",): (
        "Η Αθήνα είναι η μεγαλύτερη πόλη της Ελλάδας και κάθε χρόνο την επισκέπτονται "
        "εκατομμύρια τουρίστες. Την περασμένη εβδομάδα ο δήμαρχος ανακοίνωσε το άνοιγμα "
        "νέων σταθμών του μετρό. Οι μαθητές επιστρέφουν στα σχολεία."
    ),
    ("cp874",): (
        "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย และมีนักท่องเที่ยวหลายล้านคนมาเยือนทุกปี "
        "สัปดาห์ที่แล้วผู้ว่าการประกาศเปิดสถานีรถไฟฟ้าใหม่"
    ),
}
CASES = [(encoding, text) for encodings, text in TEXTS.items() for encoding in encodings]
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


def encoded(text: str, encoding: str) -> bytes:
    return "\n\n".join([text] * 4).encode(encoding)


@pytest.mark.parametrize(("encoding", "text"), CASES)
def test_the_likely_encoding_is_named_and_reads_the_file(tmp_path, encoding, text):
    path = tmp_path / "x.txt"
    path.write_bytes(b"Plain lines come first.\n\n" * 50 + encoded(text, encoding))
    with pytest.raises(UserError, match=r"line 101 \(looks like \S+\): not UTF-8") as failure:
        read(path)
    named = str(failure.value).partition("looks like ")[2].partition(")")[0]
    for name in (named, encoding):
        found, rejections, _ = read(path, encoding=Preprocess(encoding=name).encoding)
        assert found[50:] == [[text]] * 4 and not rejections.counts
    file = examine(path, "auto", "line", Rejections("", True), encoding)
    assert file.encoding == encoding and file.doubt is None
    path.write_bytes(encoded(text, "utf-8"))
    assert read(path, encoding=encoding)[0] == [[text]] * 4


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz", "x.jsonl", "x.csv", "x.json"])
def test_utf16_and_utf32(tmp_path, encoding, name):
    path = tmp_path / name
    text = "Bir gün \U0001f600 güldü. 今天很好。"
    data = {
        "jsonl": json.dumps({"text": text}, ensure_ascii=False) + "\n",
        "json": json.dumps([{"text": text}], ensure_ascii=False, indent=1),
        "csv": f"id;text\r\n1;{text}\r\n",
    }.get(name.rpartition(".")[2], f"{text}\n")
    for mark in ("\ufeff", ""):
        written = (mark + data).encode(encoding)
        path.write_bytes(gzip.compress(written) if name.endswith("gz") else written)
        if mark:
            assert read(path)[0] == [[text]]
        else:
            with pytest.raises(UserError, match="without a byte order mark"):
                read(path)
        assert read(path, encoding=encoding)[0] == [[text]]


@pytest.mark.parametrize("text", TEXTS.values())
def test_utf16_without_a_mark_is_recognised(text):
    for encoding in ("utf-16-le", "utf-16-be"):
        assert likely_encoding(encoded(text, encoding)) == encoding


def test_a_file_in_part_utf8_is_not_read_in_another_encoding(tmp_path):
    text = next(iter(TEXTS.values()))
    utf8, other = encoded(text, "utf-8"), encoded(text, "cp1254")
    path = tmp_path / "x.txt"
    path.write_bytes(utf8 + b"\n\n" + other)
    with pytest.raises(UserError, match=r"in part UTF-8, in part not"):
        read(path, encoding="cp1254")
    # A damaged line leaves the rest what it is.
    path.write_bytes(b"\n\n".join([utf8] * 9) + b"\n\ncaf\xe9")
    found, rejections, _ = read(path, encoding="cp1254", skip=True)
    assert found == [[text]] * 36 and rejections.counts == {"invalid_utf8": 1}
    with pytest.raises(UserError, match=r"\(a damaged line: others can be read\)"):
        read(path)


def test_another_likely_encoding_than_the_one_set_is_noticed(tmp_path):
    path = tmp_path / "x.txt"
    text = next(text for encodings, text in TEXTS.items() if "koi8-r" in encodings)
    path.write_bytes(encoded(text, "koi8-r"))
    assert examine(path, "auto", "line", Rejections("", True), "cp1254").doubt == "koi8-r"


def test_bytes_that_do_not_exist_in_an_encoding_cost_their_line(tmp_path):
    path = tmp_path / "x.txt"
    lines = ["Русский текст.", "Ещё строка текста."] * 9
    data = "\n".join(lines).encode("cp1251").split(b"\n")
    data[3] = b"\xf2\x98\xf3"  # 98 does not exist
    path.write_bytes(b"\n".join(data))
    found, rejections, _ = read(path, "line", encoding="cp1251", skip=True)
    assert found == [[line] for n, line in enumerate(lines) if n != 3]
    assert rejections.counts == {"invalid_encoding": 1}


@pytest.mark.parametrize("encoding", ["cp1254", "gb18030", "shift_jis"])
@pytest.mark.parametrize("size", [37, 999])
def test_chunks_of_files_in_other_encodings(tmp_path, encoding, size):
    text = next(text for encodings, text in TEXTS.items() if encoding in encodings)
    path = tmp_path / "x.txt"
    path.write_bytes(encoded(text, encoding))
    whole = read(path, encoding=encoding)[0]
    assert whole == [[text]] * 4
    found = []
    for start in range(0, path.stat().st_size, size):
        found += read(path, encoding=encoding, start=start, stop=start + size)[0]
    assert found == whole


def test_damage_does_not_change_the_encoding(tmp_path):
    path = tmp_path / "x.txt.gz"
    lines = [f"{number} çok güzel bir gündü." for number in range(9000)]
    for encoding in ("utf-8", "cp1254"):
        data = gzip.compress("\n".join(lines).encode(encoding))
        path.write_bytes(data[: len(data) // 2])
        found, rejections, _ = read(path, "line", encoding="cp1254", skip=True)
        assert [line for (line,) in found] == lines[: len(found)] and len(found) > 100
        assert rejections.counts == {"truncated_compression": 1}


def test_the_whole_file_decides():
    text = "Türkçe çok güzel bir dildir, öğrenmek şart.\n"
    for lines in (1, 7000):
        ascii_lines = b"Plain text.\n" * 60_000
        other = (text * lines).encode("cp1254")
        assert encoding_of(io.BytesIO(ascii_lines + other), "cp1254") == "cp1254"
        utf8 = (text * lines).encode()
        assert encoding_of(io.BytesIO(ascii_lines + utf8), "cp1254") == "utf-8"
        assert encoding_of(io.BytesIO(ascii_lines + utf8 + other), "cp1254") == MIXED
    assert encoding_of(io.BytesIO(ascii_lines), "cp1254") == "utf-8"
    one_line = text.strip() * 40_000
    assert encoding_of(io.BytesIO(one_line.encode()), "cp1254") == "utf-8"
    assert encoding_of(io.BytesIO(one_line.encode("cp1254")), "cp1254") == "cp1254"


def test_names_of_encodings_are_checked():
    assert [text_encoding(name) for name in ("UTF8", "utf-8-sig", "Latin5", "windows-1254")] == [
        *("utf-8", "utf-8", "iso8859-9", "cp1254")
    ]
    for name in ("latin-42", "rot13", "base64", "utf-7", "iso2022_jp", "unicode_escape", ""):
        with pytest.raises(ValueError, match="should be an encoding"):
            Preprocess(encoding=name)
