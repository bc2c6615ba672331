"""JupyterLab for the pages: reading one changes no file and leaves nothing to save. `make lab` uses
it."""

from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbdev.clean import clean_jupyter

# What JupyterLab writes into a page as soon as a kernel has started
SEEN = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": IPythonKernel.language_info,
}


class Pages(AsyncLargeFileManager):
    "Pages that are given to the reader with what JupyterLab would add, and are stored without it."

    async def get(self, path, content=True, type=None, **options):
        model = await super().get(path, content=content, type=type, **options)
        if content and model["type"] == "notebook":
            model["content"]["metadata"].update(SEEN)
        return model


c = get_config()  # noqa: F821
c.ServerApp.contents_manager_class = Pages
c.FileContentsManager.pre_save_hook = clean_jupyter
