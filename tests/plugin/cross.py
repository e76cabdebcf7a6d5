"""Presses the cross of a window, as a user does, and answers what napari asks then."""

import ctypes
import ctypes.util

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QLabel, QPushButton


class Message(ctypes.Structure):
    """XClientMessageEvent, padded to the size of XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("rest", ctypes.c_long * 16),
    )


CLIENT_MESSAGE = 33


def press_the_cross(window_id):
    """Do what a window manager does when the cross of a window is pressed."""
    x11 = ctypes.CDLL(ctypes.util.find_library("X11") or "libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    x11.XInternAtom.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
    x11.XSendEvent.argtypes = (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    x11.XCloseDisplay.argtypes = (ctypes.c_void_p,)
    display = x11.XOpenDisplay(None)
    message = Message(type=CLIENT_MESSAGE, window=window_id, format=32)
    message.message_type = x11.XInternAtom(display, b"WM_PROTOCOLS", 0)
    message.data[0] = x11.XInternAtom(display, b"WM_DELETE_WINDOW", 0)
    x11.XSendEvent(display, window_id, 0, 0, ctypes.byref(message))
    x11.XCloseDisplay(display)


def close(widget, answer):
    """Press the cross of the window that a widget lies in and answer the question; return a list that gets its words.

    They are there as soon as the window's own loop has run.
    """
    said = []

    def reply():
        dialog = QApplication.activeModalWidget()
        if dialog is None:
            QTimer.singleShot(50, reply)
            return
        said.append("\n".join(label.text() for label in dialog.findChildren(QLabel)))
        next(button for button in dialog.findChildren(QPushButton) if button.text() == answer).click()

    QTimer.singleShot(50, reply)
    press_the_cross(int(widget.window().winId()))
    return said
