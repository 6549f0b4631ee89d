package com.corespan.connect;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.kafka.connect.errors.ConnectException;

/** Whose certificates are believed. */
final class Trust {
  private Trust() {}

  /** Java's own trust if no store is named. */
  static SSLContext context(Settings settings) {
    var file = settings.getString(Settings.TRUST_STORE);
    try {
      if (file.isEmpty()) return SSLContext.getDefault();
      var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
      managers.init(store(Path.of(file), settings.getString(Settings.TRUST_STORE_TYPE), settings.getPassword(Settings.TRUST_STORE_PASSWORD).value().toCharArray()));
      var context = SSLContext.getInstance("TLS");
      context.init(null, managers.getTrustManagers(), null);
      return context;
    } catch (IOException | GeneralSecurityException error) {
      throw new ConnectException(Settings.TRUST_STORE + " = " + file + " cannot be used: " + (error instanceof NoSuchFileException ? "there is no such file on this worker" : error.getMessage()) + "; see also " + Settings.TRUST_STORE_TYPE + " and " + Settings.TRUST_STORE_PASSWORD, error);
    }
  }

  private static KeyStore store(Path file, String type, char[] password) throws IOException, GeneralSecurityException {
    try (var bytes = Files.newInputStream(file)) {
      if (!type.equals("PEM")) {
        var store = KeyStore.getInstance(type);
        store.load(bytes, password);
        // Java does not see what is there, and would say so only at the first handshake, in words that nobody understands.
        if (store.size() == 0) throw new IOException("there is no certificate in it that is marked as trusted: make it with keytool -importcert, or set " + Settings.TRUST_STORE_TYPE + " = PEM");
        return store;
      }
      var store = KeyStore.getInstance(KeyStore.getDefaultType());
      store.load(null, null);
      int count = 0;
      for (var certificate : CertificateFactory.getInstance("X.509").generateCertificates(bytes)) store.setCertificateEntry("ca-" + count++, certificate);
      if (count == 0) throw new IOException("there is no certificate in it");
      return store;
    }
  }
}
