"""A pad to draw a digit on, with mouse or finger, and a network that recognises it.

Run it with ``pip install ".[app]" && python examples/draw_digit.py`` and open the address that it
prints. No data leaves the machine: the pretrained network runs in ONNX Runtime.
"""

import tempfile

import gradio as gr
from PIL import Image

from mnist_zoo import PictureError, mini_resnet, predict
from mnist_zoo.export import Session, export, load_session

PEN = gr.Brush(default_size=10, colors=["#000000"], color_mode="fixed")
PAGE = Image.new(
    "RGB", (280, 280), "white"
)  # with a background image the pad starts with the pen selected


def make_session() -> Session:
    """The pretrained `mini_resnet`, exported to ONNX and loaded again."""
    with tempfile.TemporaryDirectory() as folder:
        print(export(mini_resnet(weights="mnist"), f"{folder}/digits.onnx"))
        return load_session(f"{folder}/digits.onnx")


def make_app(session: Session) -> gr.Blocks:
    """The page: a pad, two buttons, and the three most probable digits."""

    def recognise(drawing: dict[str, Image.Image]) -> dict[str, float] | str:
        try:
            result = predict(session, drawing["composite"] or PAGE, top=3, reject_unknown=True)
        except PictureError as error:
            return str(error).replace("the image:", "The pad")
        if result.digit is None:
            return "The pad shows no digit that the network knows"
        return {str(digit): probability for digit, probability in result.top}

    with gr.Blocks(title="Which digit?", analytics_enabled=False) as app:
        gr.Markdown("# Which digit?")
        with gr.Row():
            with gr.Column():
                pad = gr.Sketchpad(
                    PAGE,
                    type="pil",
                    label="Draw a digit",
                    brush=PEN,
                    layers=False,
                    transforms=(),
                    buttons=[],
                )
                with gr.Row():
                    clear = gr.Button("Clear")
                    ask = gr.Button("Recognise", variant="primary")
            with gr.Column():
                label = gr.Label(label="It is", num_top_classes=3)
        ask.click(recognise, pad, label)
        gr.on([clear.click, pad.clear], lambda: (PAGE, None), None, [pad, label])
    return app


if __name__ == "__main__":
    make_app(make_session()).launch(share=False)
