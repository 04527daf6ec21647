"""Short plain sentences of known polarity, made of words: what the reviews hardly ever say on their own.

The reviews are long and their labels noisy: of a short sentence like 这本书很好看 a network trained on them
alone is not sure. So training adds sentences made by rule from things, the judgements that fit them, and
negation, none of them from a review and none in the validation or test split.
"""

from collections.abc import Iterator

import numpy as np

from models.training.reviews import Split

SEED, COUNT, PAIRS = 1, 4000, 1500

# things; good words; bad words that stand alone after 不; bad words that do not
AREAS = (
    (
        "这本书 这部小说 这个故事 情节 内容 作者的文笔 这套书 这本杂志 剧情 这部电影 这个节目",
        "好看 精彩 感人 有趣 有意思 生动 吸引人 经典 耐看 有深度 真实",
        "无聊 枯燥 乏味 啰嗦 难看 空洞",
        "没意思 平淡 肤浅 拖沓 俗气 失望 老套 浪费时间",
    ),
    (
        "酒店 宾馆 房间 卫生间 床 大堂 环境 这里的环境 客房",
        "干净 舒服 舒适 安静 宽敞 温馨 整洁 漂亮 豪华",
        "脏 吵 破 潮湿 小 旧 简陋",
        "破旧 难闻 吵闹 阴暗 差劲 糟糕",
    ),
    (
        "电脑 笔记本 手机 屏幕 键盘 电池 这款相机 耳机 鼠标 系统 这个产品 东西 质量 做工",
        "好用 流畅 耐用 结实 漂亮 清晰 方便 稳定 好 不错 满意",
        "卡 慢 差 难用 粗糙 烫",
        "容易坏 模糊 劣质 糟糕 不稳定 垃圾 费电",
    ),
    (
        "菜 饭菜 早餐 这家餐厅的菜 面条 蛋糕 咖啡 水果 味道 这道菜",
        "好吃 新鲜 可口 美味 香 地道 丰富 不错",
        "难吃 油腻 咸 贵 难喝",
        "不新鲜 差劲 糟糕 恶心 单调",
    ),
    (
        "服务 服务员 前台 服务态度 客服 老板 快递员 售后 店员 导游",
        "热情 周到 耐心 友好 贴心 专业 礼貌 负责 好",
        "差 冷淡 敷衍 慢 傲慢",
        "恶劣 不耐烦 差劲 糟糕 没礼貌 不负责任",
    ),
)
DEGREES = """
    {0}很{1} {0}非常{1} {0}太{1}了 {0}真{1} {0}特别{1} {0}挺{1}的 {0}十分{1} {0}真的很{1} 这么{1}的{0}
    我觉得{0}很{1}
"""
DENIALS = """
    {0}不{1} {0}一点都不{1} {0}一点也不{1} {0}并不{1} 我不觉得{0}{1} {0}根本不{1} {0}没有想象中那么{1}
"""
PRAISE = """
    我很喜欢{0} 我喜欢{0} 强烈推荐{0} 推荐{0}给大家 {0}让我很满意 {0}物超所值 {0}值得 对{0}非常满意
    {0}太棒了 {0}超出预期 {0}完美 {0}很赞 非常喜欢{0} {0}性价比很高 {0}没让我失望 爱上了{0} {0}无可挑剔
    {0}值得推荐 {0}是最好的
"""
BLAME = """
    我不喜欢{0} 我讨厌{0} 不推荐{0} 千万别买{0} {0}让我很失望 {0}太让人失望了 {0}不值这个价
    对{0}很不满意 {0}糟透了 {0}很一般，不推荐 {0}有很多问题 后悔选了{0} 再也不选{0} {0}完全是浪费钱
    {0}性价比太低 {0}名不副实 受不了{0} {0}不值得 {0}是最差的
"""
WHOLE = (
    """
    下次还会再来 爱不释手 一口气看完了 非常满意 物美价廉 五星好评 会推荐给朋友 很满意的一次购物 值得购买
    下次还住这里 超级喜欢 买得值 真是太好了 感动得流泪 好评 物流很快，包装也很好 住得很开心 会回购
""",
    """
    再也不会来了 看不下去 要求退货 非常失望 浪费钱 一星差评 不会再买了 上当了 不值得购买 下次不会住这里
    太差了 后悔买了 真是太糟糕了 气死我了 差评 刚用两天就坏了 整晚都睡不着 退了
""",
)
ENDS = ("", "。", "！", "，", "~")


def phrases() -> Split:
    """4,000 sentences of one judgement, 1,500 of two that agree; half are good; the same every time."""
    rng = np.random.default_rng(SEED)
    made = [sorted(set(_said(good=False))), sorted(set(_said(good=True)))]
    texts, labels = [], []
    for label, said in enumerate(made):
        single = [said[i] for i in rng.choice(len(said), COUNT // 2, replace=False)]
        pairs = rng.choice(len(said), (PAIRS // 2, 2))
        joined = [f"{said[a]}，{said[b]}" for a, b in pairs]
        for text in single + joined:
            texts.append(text + ENDS[rng.integers(len(ENDS))])
            labels.append(label)
    return Split(texts, np.array(labels, np.int64))


def _said(*, good: bool) -> Iterator[str]:
    yield from WHOLE[good].split()
    for things, praise, deniable, blame in AREAS:
        affirmed, denied = (praise, deniable) if good else (f"{deniable} {blame}", praise)
        for thing in things.split():
            for form, words in ((DEGREES, affirmed), (DENIALS, denied)):
                fitting = [word for word in words.split() if form is DEGREES or not word.startswith("不")]
                yield from (shape.format(thing, word) for shape in form.split() for word in fitting)
            yield from (shape.format(thing) for shape in (PRAISE if good else BLAME).split())
