//! A port that stays a test's own while nobody listens on it: before its server starts, and between two lives of it.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

pub struct Port {
    pub address: SocketAddr,
    socket: Socket,
}

impl Port {
    /// A socket with this address that doesn't listen. One that does may share it, as both allow it; neither the
    /// system's choice of a free port nor that of an outgoing connection falls on it.
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Port { address: socket.local_addr().unwrap().as_socket().unwrap(), socket }
    }

    /// Listens on it itself.
    pub fn listen(self) -> std::net::TcpListener {
        self.socket.listen(8).unwrap();
        self.socket.into()
    }
}
